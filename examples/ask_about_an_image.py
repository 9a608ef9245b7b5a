"""Ask the bundled model about an image, its depth and two regions, and write the image with the answers.

Run: python examples/ask_about_an_image.py
"""

from pathlib import Path

from smolrgpt import Predictor
from smolrgpt.apps.page.scene import draw_scene  # a synthetic warehouse, in place of your own camera
from smolrgpt.viz.drawing import draw_regions

scene = draw_scene(seed=7)
regions = scene.regions[:2]  # boxes (x0, y0, x1, y1), masks (H, W), mask images and run lengths are accepted as well

predictor = Predictor.from_pretrained("nano")
print(predictor)
questions = [
    "How far apart are <region 0> and <region 1>?",
    "Is <region 0> to the left or to the right of <region 1>?",
    "How tall is <region 1>?",
]
answers = predictor.ask_many(scene.image, questions, scene.depth, regions, scene.camera)  # the image is encoded once
for question, answer in zip(questions, answers, strict=True):
    print(f"{question}  {answer.normalized_answer}  (confidence {answer.confidence:.2f})")

out = Path("out/example.png")
out.parent.mkdir(exist_ok=True)
captions = [{"question": q, "answer": str(a.normalized_answer)} for q, a in zip(questions, answers, strict=True)]
draw_regions(scene.image, regions, depth=scene.depth, answer=captions).save(out)
print(f"wrote {out}")
