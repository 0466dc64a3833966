"""VertexDeployer: puts the version that VertexUploader registered in service.

On Vertex AI's endpoint or, by its one parameter, in the folder that a model server of one machine watches.
"""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing

from adaptation import codec
from adaptation.evaluation.gate import Deployment
from adaptation.platforms.connect import connect
from adaptation.platforms.rollout import put_in_service
from adaptation.progress import report
from components import artifacts


@tfx.dsl.components.component
def VertexDeployer(
    version: tfx.dsl.components.InputArtifact[File],
    blessing: tfx.dsl.components.InputArtifact[ModelBlessing],
    deployment: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
) -> None:
    """Deploys the version, moves traffic and alias to it, and takes the old one out; says so where the gate refused.

    Args:
      version: VertexUploader's.
      blessing: ChampionGate's.
      deployment: Gets `deployment.json`, an `adaptation.evaluation.gate.Deployment`; custom properties
        `deployed` (0 or 1) and `version` (0 where nothing was deployed).
      platform: Where to deploy: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.

    Failure: cut off at any point, one version is in service; a retry finishes.
    """
    verdict = artifacts.read_verdict(blessing)
    number = version.get_int_custom_property("version")
    if number:
        target = connect(platform)
        put_in_service(target.registry, target.endpoint, target.registry.find(str(number)), "; ".join(verdict.reasons))
    outcome = Deployment(number, verdict)
    artifacts.write(deployment, artifacts.DEPLOYMENT, codec.encode(outcome))
    deployment.set_int_custom_property("deployed", int(outcome.deployed))
    deployment.set_int_custom_property("version", number)
    report(outcome.reason)
