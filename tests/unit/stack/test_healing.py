"""How often a part is started again."""

from astrotriton.stack.healing import Healing, Restarts


def test_pauses_grow_and_end() -> None:
    restarts = Restarts(4, 100.0, clock=lambda: 0.0)
    pauses = [restarts.next_pause() for _ in range(5)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, None]


def test_old_restarts_are_forgotten() -> None:
    now = 0.0
    restarts = Restarts(1, 100.0, clock=lambda: now)
    assert restarts.next_pause() == 0.2
    assert restarts.next_pause() is None
    now = 100.0
    assert restarts.next_pause() == 0.2


def test_pauses_are_bounded() -> None:
    restarts = Restarts(50, 100.0, clock=lambda: 0.0)
    assert max(restarts.next_pause() or 0.0 for _ in range(50)) == 10.0


def test_without_restarts_nothing_is_healed() -> None:
    assert Restarts(0, 100.0).next_pause() is None


def test_settings_come_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("ASTROTRITON_STACK_RESTARTS", "3")
    assert Healing().restarts == 3
