"""Draw a scene as points in metres with a box around each region, on a page that the browser can turn.

Run: python examples/see_a_scene_in_space.py
"""

from pathlib import Path

from smolrgpt.apps.page import views
from smolrgpt.apps.page.scene import draw_scene

scene = draw_scene(seed=7)  # or Scene(image, depth=DepthMap(...), camera=Camera(...), regions=[...]) of your own
for line in views.describe_regions(scene, views.find_scene_floor(scene)):
    print(line)
out = Path("out/space.html")
out.parent.mkdir(exist_ok=True)
views.plot_point_cloud(scene).write_html(out, include_plotlyjs=True)
print(f"wrote {out}")
