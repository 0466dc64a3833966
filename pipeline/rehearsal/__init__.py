"""Rehearsal of compiled pipelines: on this machine, through the commands that their containers would start."""

from pipeline.rehearsal.graph import NotRehearsable as NotRehearsable
from pipeline.rehearsal.graph import WrongParameters as WrongParameters
from pipeline.rehearsal.metadata import Artifact as Artifact
from pipeline.rehearsal.metadata import TaskState as TaskState
from pipeline.rehearsal.processes import Processes as Processes
from pipeline.rehearsal.report import Place as Place
from pipeline.rehearsal.report import Rehearsal as Rehearsal
from pipeline.rehearsal.report import RehearsalFailed as RehearsalFailed
from pipeline.rehearsal.report import TaskReport as TaskReport
from pipeline.rehearsal.runner import NothingToRepeat as NothingToRepeat
from pipeline.rehearsal.runner import RunExists as RunExists
from pipeline.rehearsal.runner import rehearse as rehearse
