"""`vitjax export` and `vitjax import`: a run's model leaves and comes back."""

import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from vitjax import models, weights
from vitjax.cli import main
from vitjax.training import runs


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The digits run's ViT as timm names it."""
    path = tmp_path_factory.mktemp("exported") / "vit.safetensors"
    assert main(["export", f"--workdir={trained[0]}", "--format=timm", f"--output={path}"]) == 0
    return path


def test_a_run_is_exported_as_it_is_evaluated(trained, exported):
    experiment, variables, _ = runs.load(trained[0], with_data=False, say=print)
    found = load_file(exported)
    # The moving average of the weights, which is what evaluation takes.
    kernel = np.asarray(variables["params"]["head"]["kernel"])
    np.testing.assert_array_equal(found["head.weight"], kernel.T)
    assert found["patch_embed.proj.weight"].shape == (16, 1, 4, 4)
    assert experiment.settings.ema_decay is not None


def test_what_was_exported_is_imported_again(capsys, exported, tmp_path):
    output = tmp_path / "own"
    assert main(["import", str(exported), f"--output={output}"]) == 0
    printed = capsys.readouterr().out
    assert "Read as timm: ViT of" in printed
    assert "for images of 8 x 8 x 1" in printed
    assert f"Written: {output}.safetensors" in printed
    own = weights.open_weights(f"{output}.safetensors")
    assert own.format == "safetensors"
    module = weights.module_of(own)
    assert (module.width, module.depth, module.num_heads) == (16, 2, 2)
    again = weights.save(
        weights.fit(own, module), module, tmp_path / "timm", "timm", input_shape=(8, 8, 1)
    )
    there, back = load_file(exported), load_file(again)
    assert there.keys() == back.keys()
    for name, array in there.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_what_a_file_is_is_printed_as_lines_of_a_config(capsys, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(exported)]) == 0
    printed = capsys.readouterr().out
    assert "The network is a vit_ti16 with depth=2, " in printed
    assert "Nothing is written without --output" in printed
    assert not list(tmp_path.iterdir())
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  config.")]
    config = ConfigDict()
    exec("\n".join(lines), {"config": config})
    assert config.init.from_checkpoint == str(exported)
    fields = {key: value for key, value in config.model.items() if key != "name"}
    named = models.create(config.model.name, **fields)
    assert (
        named.effective_fields()
        == weights.module_of(weights.open_weights(exported)).effective_fields()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=tim"], "unknown format 'tim'; did you mean 'timm'?"),
        (["--model=vit_s61"], "unknown model 'vit_s61'; did you mean 'vit_s16'?"),
        (["--modle=vit_s16"], "vitjax import has no argument '--modle=vit_s16'; did you mean"),
        (["--model=resnet50"], "of a ViT, but the model is a ResNet"),
        (["--model=vit_ti16"], "images of 8 x 8 pixels (height x width) do not divide"),
        (["--model=vit_ti16", "--image-size=16"], "width is 16 in the file and 192 in the model"),
        (["--read-as=npz"], "are not named as in npz"),
        (["--field=gelo=tanh"], "unknown key 'gelo'; did you mean 'gelu'?"),
        (["--field=say=3"], "unknown key 'say'"),
        (["--field=num_heads=four"], "num_heads is 'four'; it must be an integer"),
        (["--field=patch_size=0"], "patch_size is 0; it must be at least 1"),
        (["--output=.."], "is no name of a file"),
        (["--config.seed=1"], "vitjax import has no argument '--config.seed=1'"),
    ],
)
def test_import_says_what_is_wrong_and_writes_nothing(
    capsys, exported, tmp_path, arguments, message
):
    status = main(["import", str(exported), f"--output={tmp_path / 'own'}", *arguments])
    assert status == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--grid=4", "'4' must be two integers"),
        ("--image-size=32,32,3", "'32,32,3' must be pixels"),
        ("--image-size=0", "must be pixels"),
        ("--field=num_heads", "must read NAME=VALUE"),
        ("--output=", "the path is empty"),
    ],
)
def test_import_reads_its_arguments(capsys, exported, tmp_path, argument, message):
    with pytest.raises(SystemExit):
        main(["import", str(exported), f"--output={tmp_path / 'own'}", argument])
    assert message in capsys.readouterr().err


def test_a_field_can_be_said(exported, tmp_path):
    output = tmp_path / "own"
    assert main(["import", str(exported), f"--output={output}", "--field=gelu=tanh"]) == 0
    assert weights.module_of(weights.open_weights(f"{output}.safetensors")).gelu == "tanh"


def test_export_says_what_is_wrong(capsys, trained, tmp_path):
    for arguments, message in (
        ([f"--workdir={trained[0]}", "--format=tim"], "did you mean 'timm'?"),
        ([f"--workdir={trained[0]}", "--format=smp"], "cannot store a ViT"),
        ([f"--workdir={tmp_path}", "--format=timm"], "no run there"),
    ):
        assert main(["export", *arguments, f"--output={tmp_path / 'x'}"]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_comes_with_what_its_users_need(capsys, trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    assert main(["export", f"--workdir={run}", "--format=timm"]) == 0
    folder = run / "exported" / "timm"
    printed = capsys.readouterr().out
    assert f"Written: {folder / 'model.safetensors'}" in printed
    call = "timm.create_model('vit_base_patch16_224', num_classes=10, in_chans=1, img_size=8,"
    assert f"made by {call}" in printed
    assert f"model = {call}" in (folder / "load_model_safetensors.py").read_text()
    found = json.loads((folder / "preprocess.json").read_text())
    assert found["class_names"] == [str(digit) for digit in range(10)]
    assert found["files"]["model.safetensors"]["input"]["shape"] == ["batch", 1, 8, 8]
    card = json.loads((folder / "config.json").read_text())
    assert card["label_names"] == found["class_names"]
    assert card["pretrained_cfg"]["mean"] == found["mean"]
    # The folder is one of timm's for vitjax too, and the run's own config.json is never replaced.
    assert main(["import", str(folder), f"--output={tmp_path / 'again'}"]) == 0
    config = (run / "config.json").read_bytes()
    arguments = ["export", f"--workdir={run}", "--format=timm", f"--output={run / 'x.pth'}"]
    assert main(arguments) == 2
    assert "config.json is another file than timm's" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == config
    assert not (run / "x.pth").exists()


def test_an_export_for_images_of_another_size(capsys, trained, tmp_path):
    path = tmp_path / "model.safetensors"
    arguments = ["export", f"--workdir={trained[0]}", "--format=timm", f"--output={path}"]
    assert main([*arguments, "--image-size=12,16"]) == 0
    printed = capsys.readouterr().out
    assert "position embeddings resized from 2 x 2 to 3 x 4 patches" in printed
    assert "img_size=[12, 16]" in printed
    assert load_file(path)["pos_embed"].shape[1] == 13
    found = json.loads((tmp_path / "preprocess.json").read_text())
    assert (found["height"], found["width"]) == (12, 16)
    assert main([*arguments, "--opset=17"]) == 2
    assert "options of format 'onnx'" in capsys.readouterr().err


def test_a_config_starts_from_what_was_exported(capsys, config, trained, exported):
    arguments = [f"--config={config}", f"--config.init.from_checkpoint={exported}"]
    assert main(["evaluate", *arguments, "--split=val"]) == 0
    accuracy = json.loads((trained[0] / "summary.json").read_text())["val"]["accuracy"]
    assert f"accuracy {accuracy:.2%}" in capsys.readouterr().out
