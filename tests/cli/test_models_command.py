import json

import pytest

from vitjax.cli.entry import main


def printed(capsys, *arguments):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_a_list_is_filtered_and_sorted(capsys):
    out = printed(capsys, "vgg", "--family=vgg", "--sort=accuracy", "--max-parameters=1.331e8")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["name", "vgg11", "vgg13", "vgg11_bn", "vgg13_bn"]
    assert "69.0%" in out
    assert "14.6 G" in out


def test_a_list_as_json(capsys):
    found = json.loads(printed(capsys, "conv4", "--family=Conv4", "--sort=parameters", "--json"))
    assert found[0]["name"] == "conv4"
    assert found[0]["parameters"] == 32_901
    assert found[0]["flops"] == 52_724_288
    assert found[0]["accuracy"] is None


def test_a_summary(capsys):
    out = printed(capsys, "resnet20", "--field=num_classes=3")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["layer", "output", "parameters", "FLOPs", "field", "stride", "offset"]
    assert lines[2] == ["stem_conv", "32x32x16", "432", "848", "k", "3", "1", "0"]
    assert lines[-2][:3] == ["head", "3", "195"]
    assert out.splitlines()[-1].startswith("269,267 parameters, 73.9 MFLOPs for one image")


def test_a_summary_as_json(capsys):
    found = json.loads(printed(capsys, "resnet20", "--image-size=64,48", "--json"))
    assert found["input"] == [64, 48, 3]
    assert found["layers"][0]["shape"] == [64, 48, 16]
    assert found["flops"] == sum(layer["flops"] for layer in found["layers"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet19x", "--field=width=8"], "did you mean 'resnet1"),
        (["resnt18"], "did you mean 'resnet18'"),
        (["--family=resnett"], "unknown family 'resnett'; did you mean 'resnet'"),
        (["vgg", "--family=ResNet"], "no model of this family has such a name"),
        (["conv4", "--list", "--image-size=9"], "not for a list"),
        (["conv4", "--list", "--max-parameters=9"], "no such model has at most 9"),
        (["mlp_sinusoid", "--image-size=9"], "takes no images"),
        (["resnet20", "--field=widht=8"], "did you mean 'width'"),
    ],
)
def test_errors(capsys, arguments, words):
    assert main(["models", *arguments]) == 2
    assert words in capsys.readouterr().err
