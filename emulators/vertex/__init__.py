"""A stand-in for Vertex AI on the loopback interface: a REST server that the real client libraries talk to.

`emulator` is the server and its routes; `models`, `endpoints`, `jobs` and `operations` know the resources and what may
be done to them; `messages` holds bodies against the messages of google.cloud.aiplatform_v1. Where the service's
behaviour is documented, it is the documented one. Nothing is predicted or run here unless a hook does so.
"""

from __future__ import annotations

from emulators.vertex.emulator import VertexEmulator

__all__ = ["VertexEmulator"]
