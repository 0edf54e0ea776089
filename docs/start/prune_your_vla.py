# %% [markdown]
# # Prune the visual tokens of your own VLA
#
# Three lines around your `generate`. Run it in the checkout, `PYTHONPATH=. python docs/start/prune_your_vla.py`, or by
# cells in an editor that knows `# %%`. It takes the committed small driver as "your" model, and the committed pruner
# that was trained on its vision encoder; with a Qwen2.5-VL of your own, change the two folders.

# %%
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

import fastdrive
from stages.backbone.qwen import load_tokenizer, patchify, token_grid
from stages.scenes.images import resize
from stages.scenes.world.drawing import draw
from stages.scenes.world.scenario import simulate
from stages.vla.toy import IMAGE, VISION_END, before_text, encode, prompt_text, word_id

torch.set_num_threads(1)  # more bring a model this small nothing
MODEL, PRUNER, SIZE_PX = Path("models/driver"), "models/demo", (336, 196)

# %% [markdown]
# ## Your model and your inputs
#
# Any unmodified `Qwen2_5_VLForConditionalGeneration`. A processor makes `inputs` for a released one; the small driver
# has a vocabulary of its own, so they are made by hand: two prompts, each with one drawn front image and a speed.

# %%
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(MODEL, local_files_only=True).eval()
tokenizer = load_tokenizer(MODEL)
scene = simulate(seed=1, steps=20)
steps = (4, 12)
images = np.stack([resize(draw(scene, step, "CAM_FRONT", (448, 252))[0], SIZE_PX, "stretch") for step in steps])
h, w = token_grid(SIZE_PX)
before, image = encode(tokenizer, before_text()), [word_id(tokenizer, IMAGE)] * (h * w)
speeds_mps = [float(scene.speed_mps[step]) for step in steps]
ids = torch.tensor([before + image + encode(tokenizer, VISION_END + prompt_text(speed)) for speed in speeds_mps])
inputs = {
    "input_ids": ids,
    "attention_mask": torch.ones_like(ids),
    "mm_token_type_ids": (ids == word_id(tokenizer, IMAGE)).long(),
    "pixel_values": patchify(torch.from_numpy(images).permute(0, 3, 1, 2)),
    "image_grid_thw": torch.tensor([[1, 2 * h, 2 * w]] * len(steps)),
}
print(f"{len(steps)} prompts of {ids.shape[1]} tokens, {h * w} of them visual")


def answers(**more):
    """What the model says of each prompt: six waypoints, metres ahead and to the left."""
    out = model.generate(**inputs, max_new_tokens=60, do_sample=False, **more)
    return tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


# %%
unpruned = answers()
for speed, text in zip(speeds_mps, unpruned, strict=True):
    print(f"{speed:.1f} m/s, all tokens: {text}")

# %% [markdown]
# ## The three lines
#
# `percent` is what goes. Inside the `with`, every prompt that the model reads is pruned; `applied` counts what was
# really dropped, so a run in which nothing was dropped shows it.

# %%
pruner = fastdrive.load(PRUNER)
with fastdrive.prune(model, pruner, percent=50) as applied:
    pruned = answers()

for speed, text in zip(speeds_mps, pruned, strict=True):
    print(f"{speed:.1f} m/s, half of them: {text}")
print(f"{applied.prompts} prompts, {applied.kept} of {applied.tokens} visual tokens were read by the last layer")

# %% [markdown]
# ## Afterwards the model is as before

# %%
assert answers() == unpruned
print("outside the `with` the answers are those of before")

# %% [markdown]
# ## Other ratios, other methods
#
# A method without training is loaded by its name. A pruner of another vision encoder is refused, with both
# fingerprints.

# %%
for name, percent in ((PRUNER, 25), (PRUNER, 75), ("divprune", 75)):
    with fastdrive.prune(model, fastdrive.load(name), percent=percent) as applied:
        same = sum(a == b for a, b in zip(answers(), unpruned, strict=True))
    kept = f"kept {applied.kept} of {applied.tokens} tokens"
    print(f"{name}, {percent} % pruned: {kept}, {same} of 2 answers word for word as unpruned")

# %% [markdown]
# A model this small gains no time: choosing costs about what is saved. The counts, and at the shapes of Qwen2.5-VL-3B
# the FLOPs, are what carries over; see `fastdrive prune IMAGE` for those of one image.
