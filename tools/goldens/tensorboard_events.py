"""Writes tests/train/goldens/events.tfevents with TensorBoard's own protobuf classes and record writer.

  pip install tensorboard && python3 tools/goldens/tensorboard_events.py
"""
import pathlib

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
text = Summary.Value(
    tag="sample",
    tensor=TensorProto(dtype=7, tensor_shape=shape, string_val=["To be — or not".encode()]),
    metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
)
events = [
    Event(wall_time=1700000000.25, file_version="brain.Event:2"),
    Event(wall_time=1700000001.5, step=100, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=1700000002.5, summary=Summary(value=[Summary.Value(tag="train_loss", simple_value=4.25)])),
    Event(wall_time=1700000003.5, step=300, summary=Summary(value=[Summary.Value(tag="val_loss", simple_value=0.1)])),
    Event(wall_time=1700000004.5, step=2**40, summary=Summary(value=[text])),
]
path = pathlib.Path(__file__).parents[2] / "tests/train/goldens/events.tfevents"
path.parent.mkdir(parents=True, exist_ok=True)
with open(path, "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
