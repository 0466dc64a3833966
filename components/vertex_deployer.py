"""VertexDeployer: deploys the version that VertexUploader registered, or records why it is not deployed.

On Vertex AI's endpoint or, by its one parameter, in the folder that a model server of one machine watches.
"""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing

from adaptation import codec
from adaptation.evaluation.gate import Deployment, Outcome
from adaptation.platforms.base import CHAMPION, Standing, current_standings
from adaptation.platforms.connect import connect
from adaptation.platforms.rollout import Approval, deploy_or_wait
from adaptation.progress import report
from components import artifacts

_STANDINGS = {Outcome.REFUSE: Standing.REFUSED, Outcome.UNDECIDED: Standing.CANDIDATE}


@tfx.dsl.components.component
def VertexDeployer(
    version: tfx.dsl.components.InputArtifact[File],
    blessing: tfx.dsl.components.InputArtifact[ModelBlessing],
    deployment: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    approval: tfx.dsl.components.Parameter[str] = "automatic",
) -> None:
    """Deploys the version, moves traffic and alias to it, and takes the old one out; or marks it in the registry.

    Args:
      version: VertexUploader's.
      blessing: ChampionGate's: a version that it refused is marked as refused, one that is undecided as the candidate.
      deployment: Gets `deployment.json`, an `adaptation.evaluation.gate.Deployment`; custom properties `deployed` (0 or
        1), `version` (the challenger's number) and `outcome` (the gate's).
      platform: Where to deploy: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      approval: `person` lets a version that may be deployed wait for `adapt models approve`.

    Failure: cut off at any point, one version is serving; a retry finishes.
    """
    verdict, target = artifacts.read_verdict(blessing), connect(platform)
    uploaded = target.registry.find(str(version.get_int_custom_property("version")))
    if verdict.outcome is Outcome.DEPLOY:
        deploy_or_wait(target.registry, target.endpoint, uploaded, verdict.reason, Approval(approval))
    else:
        target.registry.mark(uploaded, _STANDINGS[verdict.outcome], verdict.reason)
    record = current_standings(target.registry.standings(), target.registry.promotions()).get(uploaded.number)
    standing, why = (record.standing.value, record.reason) if record else (CHAMPION, verdict.reason)
    concluded = Deployment(uploaded.number, standing, why, verdict, artifacts.read_pairs(blessing))
    artifacts.write(deployment, artifacts.DEPLOYMENT, codec.encode(concluded))
    deployment.set_int_custom_property("deployed", int(concluded.deployed))
    deployment.set_int_custom_property("version", uploaded.number)
    deployment.set_string_custom_property("outcome", verdict.outcome)
    report(concluded.reason)
