"""An emulator of Vertex AI on the loopback interface: a REST server that the real client libraries talk to.

`emulator` is the server and its routes; `models`, `endpoints`, `jobs` and `operations` implement the resources and the
methods; `messages` checks bodies against the messages of google.cloud.aiplatform_v1. Where the service's behaviour is
documented, the emulator follows it. It predicts and runs nothing unless a hook does.
"""

from __future__ import annotations

from emulators.vertex.emulator import VertexEmulator

__all__ = ["VertexEmulator"]
