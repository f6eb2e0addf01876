"""Write what the ISBI 2012 challenge's own code measures, for `tests/objectives/`.

    python -m scripts.parity.make_isbi_fixture tests/objectives/fixtures --classpath=JARS

Wants Java and Fiji's Trainable Segmentation, whose metrics the challenge is scored by: JARS are its
jar and those it needs, or a folder where ``trainableSegmentation/metrics`` is compiled and ImageJ's
``ij.jar``. (The fixture in the repository: Trainable Segmentation at commit 41c7083, ImageJ 1.52i,
OpenJDK 17.)
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from vitjax.data.sources import cells

SIDE = 64
IMAGES = 3
JAVA = """
import ij.ImagePlus;
import ij.ImageStack;
import ij.process.FloatProcessor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;
import trainableSegmentation.metrics.PixelError;
import trainableSegmentation.metrics.RandError;
import trainableSegmentation.metrics.VariationOfInformation;

public class Scores {
    static ImagePlus load(String path, int side) throws Exception {
        byte[] bytes = Files.readAllBytes(Paths.get(path));
        ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        ImageStack stack = new ImageStack(side, side);
        while (buffer.hasRemaining()) {
            float[] pixels = new float[side * side];
            for (int i = 0; i < pixels.length; i++) pixels[i] = buffer.getFloat();
            stack.addSlice(new FloatProcessor(side, side, pixels));
        }
        return new ImagePlus(path, stack);
    }

    public static void main(String[] given) throws Exception {
        int side = Integer.parseInt(given[2]);
        ImagePlus labels = load(given[0], side), proposals = load(given[1], side);
        RandError rand = new RandError(labels, proposals);
        VariationOfInformation information = new VariationOfInformation(labels, proposals);
        PixelError pixel = new PixelError(labels, proposals);
        for (int tenth = 1; tenth < 10; tenth++) {
            double at = tenth / 10.0;
            System.out.println("scores "
                + rand.getForegroundRestrictedRandAfterThinningStats(at, true).fScore + " "
                + information.getForegroundRestrictedScoreAfterThinning(at) + " "
                + rand.getForegroundRestrictedRandIndexStats(at).fScore + " "
                + pixel.getMetricValue(at));
        }
    }
}
"""


def examples() -> tuple[np.ndarray, np.ndarray]:
    """Labels, 0 and 1, and probabilities in 256ths less a half, both (images, side, side) uint8."""
    labels, probabilities = [], []
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        label = cells.draw(rng, SIDE).mask
        assert label is not None
        smooth = ndimage.gaussian_filter(label.astype(float), 1.3)
        noise = ndimage.gaussian_filter(rng.normal(size=label.shape), 2)
        labels.append(label.astype(np.uint8))
        probabilities.append(np.clip((smooth + noise) * 255, 0, 255).astype(np.uint8))
    return np.stack(labels), np.stack(probabilities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classpath", required=True)
    arguments = parser.parse_args()
    labels, probabilities = examples()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "Scores.java").write_text(JAVA)
        labels.astype("<f4").tofile(place / "labels")
        # No threshold is any of these, whatever its precision.
        ((probabilities + 0.5) / 256).astype("<f4").tofile(place / "probabilities")
        command = ["java", "-Djava.awt.headless=true", "-cp", arguments.classpath]
        command += [f"{place}/Scores.java", f"{place}/labels", f"{place}/probabilities", str(SIDE)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("scores ")]
    columns = np.asarray(lines, float).T
    arguments.folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.folder / "isbi_measures.npz",
        labels=labels,
        probabilities=probabilities,
        **dict(zip(("v_rand", "v_info", "rand_score", "pixel_error"), columns, strict=True)),
    )


if __name__ == "__main__":
    main()
