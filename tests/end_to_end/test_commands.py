import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vitjax.cli import main
from vitjax.cli.entry import COMMANDS


def test_evaluate_gives_the_summary_s_numbers(capsys, vitjax, trained):
    workdir, _, _ = trained
    summary = json.loads((workdir / "summary.json").read_text())
    status, output, errors = vitjax("evaluate", f"--workdir={workdir}", "--split=test")
    assert status == 0, errors
    outputs = {"test": output}
    assert main(["evaluate", f"--workdir={workdir}", "--split=val"]) == 0
    outputs["val"] = capsys.readouterr().out
    for split, output in outputs.items():
        assert f"accuracy {summary[split]['accuracy']:.2%}" in output
        assert "on 180 examples" in output


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    return paths


def test_predict_prints_a_table_and_writes_json_lines_and_a_picture(
    capsys, trained, images, tmp_path
):
    output = tmp_path / "predicted"
    assert (
        main(["predict", f"--workdir={trained[0]}", *map(str, images), f"--output={output}"]) == 0
    )
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith(str(images[0]))
    assert table[0].count("%") == 5
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in images]
    for line in lines:
        probabilities = [p["probability"] for p in line["predictions"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.00001
    with Image.open(output / "predictions.png") as picture:
        assert min(picture.size) > 100


def test_predict_can_print_json_lines(capsys, trained, images):
    assert main(["predict", f"--workdir={trained[0]}", "--json", *map(str, images)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2


def test_predict_names_the_file_that_cannot_be_read_and_writes_nothing(
    capsys, trained, images, tmp_path
):
    images[1].write_bytes(images[1].read_bytes()[:40])
    output = tmp_path / "predicted"
    status = main(["predict", f"--workdir={trained[0]}", *map(str, images), f"--output={output}"])
    assert status == 2
    assert "two.png" in capsys.readouterr().err
    assert not output.exists()


def test_predict_takes_folders_and_lists_and_goes_past_what_cannot_be_read(
    capsys, trained, images, tmp_path
):
    (tmp_path / "more").mkdir()
    images[1] = images[1].rename(tmp_path / "more" / "two²10.png")
    images.append(tmp_path / "more" / "bad.png")
    images[2].write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'more'}\n")
    output = tmp_path / "predicted"
    arguments = ["predict", f"--workdir={trained[0]}", f"{tmp_path}/*.png", f"--output={output}"]
    arguments += [f"--list={tmp_path / 'list.txt'}", "--top=2", "--tta"]
    assert main(arguments) == 2
    assert "1 of 3 images cannot be read" in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, "--on-corrupt=skip"]) == 0
    said = capsys.readouterr()
    rows = (output / "predictions.csv").read_text().splitlines()
    assert rows[0] == "image,class,probability,class_2,probability_2,error"
    assert [row.split(",")[0] for row in rows[1:]] == [str(images[i]) for i in (0, 2, 1)]
    assert said.out.count("%") == 4
    assert "2 images in" in said.err
    assert "images per second" in said.err
    assert "Skipped 1 of 3 images" in said.err
    assert "bad.png: cannot be decoded" in said.err
    # Again: what was predicted is replaced, and what was not is kept.
    assert main([*arguments, "--on-corrupt=skip"]) == 0
    (output / "predictions.png").write_text("mine")
    assert main([*arguments, "--on-corrupt=skip"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--on-corrupt=skip", "--overwrite"]) == 0
    capsys.readouterr()
    images[0].write_bytes(b"")
    images[1].unlink()
    assert main([*arguments, "--on-corrupt=skip"]) == 2
    assert "no image can be read; the first:" in capsys.readouterr().err


def test_data_counts_and_draws(capsys, config, tmp_path):
    picture = tmp_path / "batch.png"
    assert main(["data", f"--config={config}", f"--output={picture}"]) == 0
    output = capsys.readouterr().out
    assert [line.split() for line in output.splitlines() if line.startswith("all")] == [
        ["all", "1437", "100.0%", "180", "100.0%", "180", "100.0%"]
    ]
    assert "no example is in two splits (1,797 compared byte for byte)" in output
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 200


def test_models_lists_names_counts_sizes_and_papers(capsys):
    assert main(["models", "vit_ti"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("vit_ti16")]
    assert "5,717,416" in line
    assert "224" in line
    assert "2012.12877" in line
    # What takes numbers has no image size.
    assert main(["models", "mlp_sinusoid", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["mlp_sinusoid", "1,761", "-"]


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert re.search(rf"examples?:\n  vitjax {command} ", capsys.readouterr().out)


def test_help_imports_nothing_that_computes():
    code = (
        "import sys\nfrom vitjax.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'jax', 'numpy', 'ml_collections', 'absl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config=configs/digits/vitt.py", "--workdir=x"], "did you mean 'configs/dig"),
        (["evaluate", "--workdir=nowhere"], "no run there"),
        (["predict", "--workdir=nowhere", "missing.png"], "no file or folder 'missing.png'"),
        (["predict", "--workdir=nowhere"], "no images are given"),
        (["models", "vitti"], "did you mean"),
        (["models", "--config.a=1"], "has no argument"),
    ],
)
def test_mistakes_are_named(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_mistakes_in_using_a_run_are_named(capsys, trained, tmp_path):
    workdir = f"--workdir={trained[0]}"
    for arguments, message in (
        (["evaluate", workdir, "--split=tset"], "did you mean 'test'"),
        (["evaluate", workdir, "--checkpoint=lst"], "did you mean 'last'"),
        (["evaluate", workdir, "--checkpoint=7"], "no checkpoint of step 7; there are: 40, 50, 60"),
        (["evaluate", workdir, "--checkpoint=best"], "chooses no best checkpoint"),
        (["predict", workdir, "missing.png"], "missing.png"),
        (["predict", workdir, "scripts/../README.md", "--top=0"], "predict.top is 0; it must be"),
        (
            ["predict", workdir, "README.md", "--support=docs"],
            "objective Classification does not adapt to new classes; few-shot runs do",
        ),
        (
            ["predict", workdir, "README.md", "--tile=64"],
            "task 'classification' predicts without --tile (tile=); its options are --top, --tta,",
        ),
        (
            ["predict", workdir, "README.md", "--option=on_corupt=skip"],
            "without --on-corupt (on_corupt=); did you mean '--on-corrupt'?",
        ),
        (["predict", workdir, "README.md"], "README.md: cannot be decoded"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    emptied = tmp_path / "emptied"
    shutil.copytree(trained[0], emptied)
    shutil.rmtree(emptied / "checkpoints")
    assert main(["evaluate", f"--workdir={emptied}"]) == 2
    assert "no checkpoint" in capsys.readouterr().err
