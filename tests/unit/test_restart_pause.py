"""How long is waited before a process that has ended is started again."""

from artstorefs_daemon.restart_pause import RestartPause


def test_pauses_grow_up_to_a_limit_and_begin_anew_after_one_that_was_of_use() -> None:
    pause = RestartPause(0.5, 3.0)
    assert [pause.take_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    pause.was_of_use()
    assert [pause.take_s() for _ in range(2)] == [0.5, 1.0]
