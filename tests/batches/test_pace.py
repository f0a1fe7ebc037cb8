"""How many leases may wait in a slot, and who gets the room."""

from batches.supervision.pace import AHEAD, MOST, Pace, Room


def test_an_unknown_kind_waits_alone():
    assert Pace().depth("anything") == 1


def test_a_slow_kind_waits_alone():
    pace = Pace()
    for _ in range(100):
        pace.ran("slow", AHEAD * 1.1)
    assert pace.depth("slow") == 1


def test_a_quick_kind_is_trusted_step_by_step():
    pace, depths = Pace(), []
    for _ in range(1000):
        pace.ran("quick", 0.00001)
        depths.append(pace.depth("quick"))
    assert depths[0] == 2
    assert depths == sorted(depths)
    assert depths[-1] == MOST


def test_one_slow_task_ends_the_trust():
    pace = Pace()
    for _ in range(1000):
        pace.ran("mixed", 0.00001)
    pace.ran("mixed", 2.0)
    assert pace.depth("mixed") == 1


def test_long_kinds_leave_their_share_to_the_others():
    room = Room(Pace(), free=2.0, free_for_long=1.0, kinds={"long": True, "short": False})
    assert (room.left("long"), room.left("short"), room.left("foreign")) == (1, 2, 0)
    room.take("long", 1)
    assert (room.left("long"), room.left("short")) == (0, 1)
    room.take("short", 1)
    assert room.full()
