"""The rules by which single things move: a vehicle behind what is ahead of it, a light, a group that crosses the road.

Vehicles follow the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000).
"""

from dataclasses import dataclass, field

from stages.scenes.world.paths import Path
from stages.scenes.world.program import Item

TICK_S = 0.05
TICKS_PER_STEP = 10  # key frames are 0.5 s apart
ACCEL_MPS2, BRAKE_MPS2, HARDEST_MPS2 = 1.8, 2.2, 6.0
HEADWAY_S, STANDSTILL_M = 1.1, 2.0
RED, AMBER, GREEN = 1, 2, 4  # bits of a light's state; red with amber announces green
KERB_M = 7.4  # |d| where a pedestrian starts and ends


@dataclass
class Mover:
    path: Path
    u: float
    v: float
    front_m: float
    pace: float = 1.0

    def move(self, a: float) -> float:
        """Drive one tick; returns the acceleration that came of it."""
        v = max(0.0, self.v + max(a, -HARDEST_MPS2) * TICK_S)
        self.u += (self.v + v) / 2 * TICK_S
        change, self.v = (v - self.v) / TICK_S, v
        return change


@dataclass
class Light:
    line_u: float
    wait_s: float
    state: int
    turns: bool  # green at first, red once a vehicle is near enough to stop
    clock_s: float = 0.0

    def step(self, gap_m: float, v: float) -> None:
        """Advance by one tick; `gap_m` and `v` are those of the first vehicle before the stop line."""
        self.clock_s += TICK_S
        if self.turns and self.state == GREEN and 0 < gap_m < v * v / (2 * BRAKE_MPS2) + 8:
            self.state, self.clock_s, self.turns = AMBER, 0.0, False
        elif self.state == AMBER and self.clock_s > 1.0:
            self.state = RED
        elif self.state == RED and (gap_m > 6 or v > 0.3):
            self.clock_s = 0.0
        elif self.state == RED and self.clock_s > self.wait_s:
            self.state, self.clock_s = RED | AMBER, 0.0
        elif self.state == RED | AMBER and self.clock_s > 1.0:
            self.state = GREEN


@dataclass
class Walk:
    line_u: float
    speed: float
    last_m: float  # how far the last of the group is behind the first
    d: float = field(init=False)
    started: bool = False

    def __post_init__(self) -> None:
        self.d = -KERB_M if self.speed > 0 else KERB_M

    def step(self, gap_m: float, v: float) -> None:
        comfortable_m = v * v / (2 * BRAKE_MPS2) + 2  # nobody steps out in front of a vehicle that can hardly stop
        self.started = self.started or comfortable_m < gap_m < comfortable_m + 6 + 0.6 * v
        if self.started and abs(self.d) < KERB_M + self.last_m + 0.1:
            self.d += self.speed * TICK_S

    @property
    def in_the_way(self) -> bool:
        """From the first step until the last of the group has left the ego's lane."""
        clear = self.d - self.last_m > -0.1 if self.speed > 0 else self.d + self.last_m < -3.6
        return self.started and not clear


def idm(v: float, v_wanted: float, gap_m: float, v_ahead: float) -> float:
    """Acceleration (m/s^2) behind something `gap_m` ahead that moves at `v_ahead`."""
    free = ACCEL_MPS2 * (1 - (v / v_wanted) ** 4) if v <= v_wanted else -min(BRAKE_MPS2, (v - v_wanted) / 0.5)
    if gap_m > 120:
        return free
    wanted = STANDSTILL_M + max(0.0, v * HEADWAY_S + v * (v - v_ahead) / (2 * (ACCEL_MPS2 * BRAKE_MPS2) ** 0.5))
    return min(free, ACCEL_MPS2 * (1 - (v / v_wanted) ** 4 - (wanted / max(gap_m, 0.1)) ** 2))


def settle(v: float, a: float) -> float:
    """A vehicle that crawls towards its stop stands; one that stands does not roll back."""
    return -min(v / TICK_S, 2.0) if v < 0.25 and a < 0.15 else a


def group_lag_m(item: Item) -> float:
    """How far the last pedestrian of a group walks behind the first: one, two or three of them."""
    return (0.0, 0.9, 1.6)[int(item.variant * 3)]
