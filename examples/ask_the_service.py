"""Ask a running service with OpenAI's client.

Run: smolrgpt serve, then python examples/ask_the_service.py http://127.0.0.1:8000
"""

import base64
import io
import sys
from typing import Any

import numpy as np
import openai
from PIL import Image

from smolrgpt.apps.page.scene import draw_scene  # a synthetic warehouse, in place of your own camera


def data_url(image: Image.Image) -> str:
    """An image as a PNG data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


scene = draw_scene(seed=7)
assert scene.depth is not None
millimetres = Image.fromarray((1000 * scene.depth.values).astype(np.uint16))
camera = {name: getattr(scene.camera, name) for name in ("fx", "fy", "cx", "cy")}
regions = [{"rle": region.to_rle()} for region in scene.regions[:2]]  # or {"box": [...]}, {"polygon": [...]}, {"mask": data URL}
image = {"type": "image_url", "image_url": {"url": data_url(scene.image)}}
question = {"type": "text", "text": "How far apart are <region 0> and <region 1>?"}
messages: list[Any] = [{"role": "user", "content": [image, question]}]

client = openai.OpenAI(base_url=f"{sys.argv[1] if len(sys.argv) > 1 else 'http://127.0.0.1:8000'}/v1", api_key="none")
stream = client.chat.completions.create(
    model="nano",
    messages=messages,
    stream=True,
    extra_body={"spatial": {"depth": data_url(millimetres), "regions": regions, "camera": camera}},
)
for chunk in stream:
    delta = chunk.choices[0].delta
    print(delta.content or "", end="", flush=True)
    if delta.model_extra and "spatial" in delta.model_extra:
        print("\n", delta.model_extra["spatial"])
