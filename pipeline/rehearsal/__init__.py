"""Rehearsal of compiled pipelines: on this machine, through the commands that their containers would start."""

from pipeline.rehearsal.executions import Artifact as Artifact
from pipeline.rehearsal.executions import TaskState as TaskState
from pipeline.rehearsal.processes import Processes as Processes
from pipeline.rehearsal.results import Place as Place
from pipeline.rehearsal.results import Rehearsal as Rehearsal
from pipeline.rehearsal.results import RehearsalFailed as RehearsalFailed
from pipeline.rehearsal.results import TaskReport as TaskReport
from pipeline.rehearsal.run import rehearse as rehearse
from pipeline.rehearsal.task_graph import NotRehearsable as NotRehearsable
