"""Exported samples -> a recording of Rerun. Runs in an environment of its own, which has rerun-sdk and nothing of ours.

python to_rerun.py FOLDER out.rrd        # FOLDER has samples.json and images/*.png
"""

import json
import sys
from pathlib import Path

import rerun as rr

PLAN, RECORDED = (213, 94, 0), (120, 120, 120)


def main(folder: Path, out: Path) -> None:
    """One step of the timeline `sample` for each key frame: front image, both paths, numbers, the answer."""
    held = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    recording = rr.RecordingStream(f"fastdrive {held['method']} {held['pruned_percent']} %")
    recording.save(str(out))
    for sample in held["samples"]:
        recording.set_time("sample", sequence=sample["number"])
        recording.log("front", rr.EncodedImage(path=folder / sample["image"]))
        for name, colour in (("plan", PLAN), ("recorded", RECORDED)):
            points_m = [[0.0, 0.0], *sample["plan_m" if name == "plan" else "future_m"]]
            path = [[x, y, 0.0] for x, y in points_m]  # ego frame: x forward, y left
            recording.log(f"road/{name}", rr.LineStrips3D([path], colors=[colour]))
        for name in ("l2_cm", "l2_3s_cm", "collision", "intersection", "speed_mps"):
            if sample[name] is not None:
                recording.log(f"numbers/{name}", rr.Scalars(sample[name]))
        words = f"{sample['scene']} {sample['token']}\nparsed: {sample['parsed']}\n\n{sample['answer']}"
        recording.log("answer", rr.TextDocument(words))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
