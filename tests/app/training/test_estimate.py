"""The memory that runs will need, as the settings page shows it."""

from app.projects.settings import training_of
from app.training.estimate import _merged


def test_edited_fields_replace_stored_ones_and_leave_them_alone() -> None:
    stored = {"seed": 1, "ppo": {"epochs": 2, "batch_size": 8}}
    edited = {"training.ppo.epochs": "4", "training.seed": "7", "sampling.top_k": "3", "name": "x"}
    merged = _merged(stored, edited, "training")
    assert training_of(merged).ppo.epochs == 4
    assert training_of(merged).ppo.batch_size == 8
    assert training_of(merged).seed == 7
    assert stored == {"seed": 1, "ppo": {"epochs": 2, "batch_size": 8}}
