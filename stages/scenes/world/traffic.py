"""Who drives when: the ego, the vehicle ahead of it, lights and crossing pedestrians, stepped together at 20 Hz."""

from dataclasses import dataclass

import numpy as np

from stages.scenes.world.paths import Path
from stages.scenes.world.program import FRONT_M, Item
from stages.scenes.world.roads import Array
from stages.scenes.world.rules import GREEN, RED, TICK_S, Light, Mover, Walk, group_lag_m, idm, settle


@dataclass(frozen=True)
class Lead:
    """A vehicle ahead of the ego, and what it will do."""

    category: str
    size_wlh_m: tuple[float, float, float]
    gap_m: float  # from the ego's front bumper to its rear
    speed_mps: float
    pace: float  # share of the allowed speed that it drives
    brake_at_s: float  # it brakes to a stop here, and stands for `hold_s`
    hold_s: float


@dataclass(frozen=True, eq=False)
class Traffic:
    """All that moved, per tick (n ticks)."""

    ego_u_m: Array  # (n,)
    ego_mps: Array
    ego_mps2: Array
    lead_u_m: Array | None
    lead_braking: Array | None  # 1 while its brake lights are lit
    lights: dict[int, Array]  # item index: state bits per tick
    walks: dict[int, Array]  # item index: d of the first pedestrian of the group, per tick
    binding: list[str]  # what held the ego back at each tick, "" for nothing


class Clockwork:
    """The state of everything that moves by rules; `run` steps it and records."""

    def __init__(self, items: tuple[Item, ...], path: Path, speed_mps: float) -> None:
        self.ego = Mover(path, 0.0, speed_mps, FRONT_M)
        self.lead: Mover | None = None
        self.plan: Lead | None = None
        self.lights: dict[int, Light] = {}
        self.walks: dict[int, Walk] = {}
        for index, item in enumerate(items):
            line_u = path.u_of_s(item.start_m)
            if item.kind in ("red", "green"):
                turns = item.kind == "red" and item.variant < 0.35
                state = GREEN if turns or item.kind == "green" else RED
                self.lights[index] = Light(line_u, item.amount, state, turns)
            elif item.kind == "pedestrian":
                self.walks[index] = Walk(line_u, item.amount, group_lag_m(item))

    def add_lead(self, plan: Lead, path: Path) -> None:
        """Put a vehicle ahead of the ego; its reference point is its middle."""
        half = plan.size_wlh_m[1] / 2
        self.plan = plan
        self.lead = Mover(path, FRONT_M + plan.gap_m + half, plan.speed_mps, half, plan.pace)

    def run(self, ticks: int) -> Traffic:
        """Step everything `ticks` times; the state before each step is recorded."""
        ego: list[tuple[float, float, float]] = []
        lead: list[tuple[float, float]] = []
        lights: dict[int, list[int]] = {index: [] for index in self.lights}
        walks: dict[int, list[float]] = {index: [] for index in self.walks}
        binding: list[str] = []
        for tick in range(ticks):
            ego_a, tag = self._ego_acceleration()
            binding.append(tag)
            if self.lead is not None:
                lead_a = self._lead_acceleration(tick * TICK_S)
                lead.append((self.lead.u, float(lead_a < -0.5 or self.lead.v < 0.2)))
            for index, light in self.lights.items():
                lights[index].append(light.state)
                light.step(*self._first_before(light.line_u))
            for index, walk in self.walks.items():
                walks[index].append(walk.d)
                walk.step(*self._first_before(walk.line_u))
            ego.append((self.ego.u, self.ego.v, self.ego.move(ego_a)))
            if self.lead is not None:
                self.lead.move(lead_a)
        track = np.array(ego)
        follow = np.array(lead) if lead else None
        return Traffic(
            ego_u_m=track[:, 0],
            ego_mps=track[:, 1],
            ego_mps2=track[:, 2],
            lead_u_m=None if follow is None else follow[:, 0],
            lead_braking=None if follow is None else follow[:, 1],
            lights={index: np.array(states, float) for index, states in lights.items()},
            walks={index: np.array(places) for index, places in walks.items()},
            binding=binding,
        )

    def _first_before(self, line_u: float) -> tuple[float, float]:
        """Gap to a line, and speed, of the first vehicle that has not reached it; a far gap when all are past."""
        movers = [self.ego] if self.lead is None else [self.lead, self.ego]
        for mover in movers:
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
        ego = self.ego
        limit = max(0.5, float(np.interp(ego.u, ego.path.u_m, ego.path.limit_mps)))
        free = idm(ego.v, limit, 1e6, 0.0)
        best, tag = free, ""
        ahead = [(gap, 0.0, name) for gap, name in self._stops(ego)]
        if self.lead is not None and self.plan is not None:
            d = float(np.interp(self.lead.u, self.lead.path.u_m, self.lead.path.d_m))
            if d > -4.0:
                ahead.append((self.lead.u - self.lead.front_m - ego.u - FRONT_M, self.lead.v, "lead"))
        for gap, v_ahead, name in ahead:
            a = idm(ego.v, limit, gap, v_ahead)
            if a < best:
                best, tag = a, name if a < free - 0.4 else tag
        return settle(ego.v, best), tag

    def _lead_acceleration(self, now_s: float) -> float:
        assert self.lead is not None
        assert self.plan is not None
        lead, plan = self.lead, self.plan
        if plan.brake_at_s <= now_s < plan.brake_at_s + plan.hold_s:
            return -2.5 if lead.v > 0 else 0.0
        limit = max(0.5, lead.pace * float(np.interp(lead.u, lead.path.u_m, lead.path.limit_mps)))
        gaps = [gap for gap, _ in self._stops(lead)] or [1e6]
        return settle(lead.v, idm(lead.v, limit, min(gaps), 0.0))
