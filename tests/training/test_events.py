"""TensorBoard's files: what is written is read back, and errors end no run."""

import struct

from tensorboardX.proto.event_pb2 import Event

from vitjax.training.events import Events


def read(folder):
    """The events of all files: each is a length, a checksum, the event and a checksum."""
    found = []
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[12 + length + 4 :]
    return found


def test_numbers_come_back(tmp_path):
    events = Events(tmp_path / "tensorboard", next_step=5)
    events.write(7, {"train/loss": 0.5, "val/iou/1": 2.0})
    events.close()
    version, start, *numbers = read(tmp_path / "tensorboard")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, start.session_log.START)
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in numbers] == [
        (7, "train/loss", 0.5),
        (7, "val/iou/1", 2.0),
    ]


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file")
    events = Events(tmp_path / "tensorboard", next_step=1)
    events.write(1, {"train/loss": 0.5})
    events.close()
    (record,) = caplog.records
    assert "tensorboard: events for TensorBoard cannot be written (File exists)" in record.message
