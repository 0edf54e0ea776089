"""The ego, the vehicle ahead of it, lights and crossing pedestrians, stepped together at 20 Hz.

Vehicles follow the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000).
"""

from dataclasses import dataclass

import numpy as np

from stages.scenes.world.roads import FRONT_M, Array, Item, Path

TICK_S = 0.05
TICKS_PER_STEP = 10  # key frames are 0.5 s apart
ACCEL_MPS2, BRAKE_MPS2, HARDEST_MPS2 = 1.8, 2.2, 6.0
HEADWAY_S, STANDSTILL_M = 1.1, 2.0
RED, AMBER, GREEN = 1, 2, 4  # bits of a light's state; red with amber announces green
KERB_M = 7.4  # |d| where a pedestrian starts and ends


@dataclass
class Mover:
    """A vehicle that drives along a path."""

    path: Path
    u: float
    v: float
    front_m: float  # from its reference point to its front
    category: str = ""
    pace: float = 1.0  # share of the allowed speed that it drives
    brake_at_s: float = 1e6  # it brakes to a stop here, and stands for `hold_s`
    hold_s: float = 0.0

    @property
    def limit(self) -> float:
        return max(0.5, self.pace * float(np.interp(self.u, self.path.u_m, self.path.limit_mps)))

    def move(self, a: float) -> float:
        """Drive one tick; returns the acceleration that results."""
        v = max(0.0, self.v + max(a, -HARDEST_MPS2) * TICK_S)
        self.u += (self.v + v) / 2 * TICK_S
        change, self.v = (v - self.v) / TICK_S, v
        return change


@dataclass
class Light:
    """A traffic light at the stop line `line_u`."""

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
    """A group of pedestrians that crosses behind the stop line `line_u`."""

    line_u: float
    speed: float
    last_m: float  # how far the last of the group is behind the first
    d: float  # of the first of the group
    started: bool = False

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


def _settle(v: float, a: float) -> float:
    """A vehicle that crawls towards its stop stands; one that stands does not roll back."""
    return -min(v / TICK_S, 2.0) if v < 0.25 and a < 0.15 else a


def group_lag_m(item: Item) -> float:
    """Distance of the last pedestrian of a group behind the first: one, two or three of them."""
    return (0.0, 0.9, 1.6)[int(item.variant * 3)]


@dataclass(frozen=True, eq=False)
class Traffic:
    """All that moved, per tick (n ticks)."""

    ego_u_m: Array  # (n,)
    ego_mps: Array
    ego_mps2: Array
    lead: Array | None  # (n, 2) its u_m, and 1 while its brake lights are lit
    lights: dict[int, Array]  # item index: state bits per tick
    walks: dict[int, Array]  # item index: d of the first pedestrian of the group, per tick
    binding: list[str]  # what held the ego back at each tick, "" for nothing


class Clockwork:
    """The state of everything that moves by rules; `run` steps it and records."""

    def __init__(self, items: tuple[Item, ...], ego: Mover, lead: Mover | None) -> None:
        self.ego, self.lead = ego, lead
        self.lights: dict[int, Light] = {}
        self.walks: dict[int, Walk] = {}
        for index, item in enumerate(items):
            line_u = ego.path.u_of_s(item.start_m)
            if item.kind in ("red", "green"):
                turns = item.kind == "red" and item.variant < 0.35
                state = GREEN if turns or item.kind == "green" else RED
                self.lights[index] = Light(line_u, item.amount, state, turns)
            elif item.kind == "pedestrian":
                start_m = -KERB_M if item.amount > 0 else KERB_M
                self.walks[index] = Walk(line_u, item.amount, group_lag_m(item), start_m)

    def run(self, ticks: int) -> Traffic:
        """Step everything `ticks` times; the state before each step is recorded."""
        ego: list[tuple[float, float, float]] = []
        lead: list[tuple[float, float]] = []
        binding: list[str] = []
        lights: dict[int, list[float]] = {index: [] for index in self.lights}
        walks: dict[int, list[float]] = {index: [] for index in self.walks}
        for tick in range(ticks):
            ego_a, tag = self._ego_acceleration()
            binding.append(tag)
            if self.lead is not None:
                lead_a = self._lead_acceleration(self.lead, tick * TICK_S)
                lead.append((self.lead.u, float(lead_a < -0.5 or self.lead.v < 0.2)))
            for index, light in self.lights.items():
                lights[index].append(float(light.state))
                light.step(*self._first_before(light.line_u))
            for index, walk in self.walks.items():
                walks[index].append(walk.d)
                walk.step(*self._first_before(walk.line_u))
            ego.append((self.ego.u, self.ego.v, self.ego.move(ego_a)))
            if self.lead is not None:
                self.lead.move(lead_a)
        states, places = ({i: np.array(values) for i, values in track.items()} for track in (lights, walks))
        u_m, speed, acceleration = np.array(ego).T
        return Traffic(u_m, speed, acceleration, np.array(lead) if lead else None, states, places, binding)

    def _first_before(self, line_u: float) -> tuple[float, float]:
        """Gap to a line, and speed, of the first vehicle that has not reached it; a far gap when all are past."""
        for mover in filter(None, (self.lead, self.ego)):
            gap = line_u - mover.u - mover.front_m
            if gap > -0.5:
                return gap, mover.v
        return 1e6, 0.0

    def _stops(self, mover: Mover) -> list[tuple[float, str]]:
        """Gaps to the lines where this vehicle has to stop now."""
        stops = []
        for light in self.lights.values():
            gap = light.line_u - mover.u - mover.front_m
            if light.state != GREEN and -0.5 < gap < 70:
                stops.append((gap + 1.0, "red"))
        for walk in self.walks.values():
            gap = walk.line_u - mover.u - mover.front_m
            if walk.in_the_way and -1.0 < gap < 60:
                stops.append((gap + 1.0, "pedestrian"))
        return stops

    def _ego_acceleration(self) -> tuple[float, str]:
        ego, limit = self.ego, self.ego.limit
        free = idm(ego.v, limit, 1e6, 0.0)
        best, tag = free, ""
        ahead = [(gap, 0.0, name) for gap, name in self._stops(ego)]
        if self.lead is not None and np.interp(self.lead.u, self.lead.path.u_m, self.lead.path.d_m) > -4.0:
            ahead.append((self.lead.u - self.lead.front_m - ego.u - FRONT_M, self.lead.v, "lead"))
        for gap, v_ahead, name in ahead:
            a = idm(ego.v, limit, gap, v_ahead)
            if a < best:
                best, tag = a, name if a < free - 0.4 else tag
        return _settle(ego.v, best), tag

    def _lead_acceleration(self, lead: Mover, now_s: float) -> float:
        if lead.brake_at_s <= now_s < lead.brake_at_s + lead.hold_s:
            return -2.5 if lead.v > 0 else 0.0
        gaps = [gap for gap, _ in self._stops(lead)] or [1e6]
        return _settle(lead.v, idm(lead.v, lead.limit, min(gaps), 0.0))
