"""The Vision Transformers of other projects that vitjax's are compared with."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from scripts.parity.reference_cases import Build, Case

import timm  # isort: skip  (after what declares torchvision's operators)
import torchvision  # isort: skip
import transformers  # isort: skip
from timm.models.vision_transformer import VisionTransformer  # isort: skip

State = dict[str, torch.Tensor]

# Names of a reference's modules, as patterns, and of vitjax's activations; with a "<", what goes
# into the module and not what comes out.
TIMM = {
    r"patch_embed\.proj": "patches",
    r"norm_pre": "tokens",
    r"blocks\.(\d+)": r"encoder/block_\1/after_mlp",
    r"blocks\.(\d+)\.norm2": r"<encoder/block_\1/after_attention",
    r"blocks\.(\d+)\.attn\.attn_drop": r"encoder/block_\1/attention/map",
    r"blocks\.(\d+)\.attn\.q_norm": r"encoder/block_\1/attention/queries",
    r"blocks\.(\d+)\.attn\.k_norm": r"encoder/block_\1/attention/keys",
    r"blocks\.(\d+)\.mlp\.act": r"encoder/block_\1/mlp/hidden",
    r"norm": "encoded",
    r"head_drop": "pooled",
}
TORCHVISION = {
    r"conv_proj": "patches",
    r"encoder\.dropout": "tokens",
    r"encoder\.layers\.encoder_layer_(\d+)": r"encoder/block_\1/after_mlp",
    r"encoder\.layers\.encoder_layer_(\d+)\.ln_2": r"<encoder/block_\1/after_attention",
    r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.1": r"encoder/block_\1/mlp/hidden",
    r"encoder\.ln": "encoded",
}
_LAYER = r"model\.(?:\w+\.)?(?:encoder\.)?layers?\.(\d+)"
HUGGINGFACE = {
    r"model\.(?:\w+\.)?embeddings\.patch_embeddings\.projection": "patches",
    r"model\.(?:\w+\.)?embeddings": "tokens",
    _LAYER: r"encoder/block_\1/after_mlp",
    _LAYER + r"\.(?:norm2|layernorm_after)": r"<encoder/block_\1/after_attention",
    _LAYER + r"\.mlp\.activation(?:_fn)?": r"encoder/block_\1/mlp/hidden",
    r"model\.(?:\w+\.)?layernorm": "encoded",
}


class Answer(nn.Module):
    """A model of transformers that answers with one tensor: logits, or the class token."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of images (batch, channels, height, width)."""
        keywords = {}
        if isinstance(self.model, transformers.ViTMAEModel):
            # The order in which MAE shuffles patches; this one leaves them as they are.
            patches = self.model.embeddings.patch_embeddings.num_patches
            keywords["noise"] = torch.arange(patches).expand(len(x), -1)
        out = self.model(x, **keywords)
        return out.logits if hasattr(out, "logits") else out.last_hidden_state[:, 0]


def unwrapped(state: State) -> State:
    """A state dict of `Answer` as that of the model inside."""
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def renamed(names: list[tuple[str, Any]], state: State) -> State:
    """Another name for every tensor."""
    found = {}
    for name, tensor in state.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def older(state: State) -> State:
    """As transformers saves its models, version 5 like those before: most of the files there are.

    Of an `Answer`'s state dict.
    """
    state = unwrapped(state)
    layer = r"encoder.layer.\1"
    kinds = {"q": "query", "k": "key", "v": "value"}
    names: list[tuple[str, Any]] = [
        (r"\.attention\.([qkv])_proj\.", lambda m: f".attention.attention.{kinds[m[1]]}."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
    ]
    if not any("lambda1" in name for name in state):
        names += [
            (r"(?<!decoder_)\blayers\.(\d+)", layer),
            (r"\.mlp\.fc1\.", ".intermediate.dense."),
            (r"\.mlp\.fc2\.", ".output.dense."),
        ]
    return renamed(names, state)


def dinov2(state: State) -> State:
    """DINOv2 of timm as facebookresearch/dinov2 names it, every block in a chunk of its own."""
    state = renamed(
        [
            (r"^blocks\.(\d+)", r"blocks.\1.\1"),
            (r"^reg_token$", "register_tokens"),
        ],
        state,
    )
    width = state["cls_token"].shape[-1]
    if "register_tokens" in state:
        # timm has added up what the original keeps apart. Half of a number is exact.
        first = state["cls_token"] / 2
        state["cls_token"] = state["cls_token"] - first
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    return {**state, "mask_token": torch.zeros(1, width)}


def published(state: State) -> State:
    """As in the files that torchvision publishes."""
    return renamed([(r"\.mlp\.([03])\.", lambda m: f".mlp.linear_{1 + (m[1] == '3')}.")], state)


def hidden_head(state: State) -> State:
    """The names of timm, of the time when it had a hidden layer before the head."""
    return renamed([(r"^head\.0\.", "pre_logits.fc."), (r"^head\.2\.", "head.")], state)


def flax(heads: int, big_vision: bool, state: State, scanned: bool = False) -> State:
    """The ViT of timm as google-research/vision_transformer or big_vision name it."""
    numbers = (0, 0, 1, 0) if big_vision else (0, 1, 2, 3)
    norm1, attention, norm2, mlp = numbers
    names: list[tuple[str, Any]] = [
        (r"^patch_embed\.proj\.", "embedding/"),
        (r"^cls_token$", "cls"),
        (r"^pos_embed$", "pos_embedding"),
        (r"^norm\.", "Transformer/encoder_norm/"),
        (r"^blocks\.", "Transformer/encoderblock_"),
        (r"^attn_pool\.latent$", "MAPHead_0/probe"),
        (r"^attn_pool\.(q|k|v|proj)\.", r"MAPHead_0/attn.\1."),
        (r"^attn_pool\.norm\.", "MAPHead_0/LayerNorm_0/"),
        (r"^attn_pool\.", "MAPHead_0."),
        (r"\.norm1\.", f"/LayerNorm_{norm1}/"),
        (r"\.norm2\.", f"/LayerNorm_{norm2}/"),
        (r"[./]attn\.", f"/MultiHeadDotProductAttention_{attention}."),
        (r"\.mlp\.fc([12])\.", lambda m: f"/MlpBlock_{mlp}/Dense_{int(m[1]) - 1}/"),
        (r"\.q\.", "/query/"),
        (r"\.k\.", "/key/"),
        (r"\.v\.", "/value/"),
        (r"\.proj\.", "/out/"),
        (r"^head\.", "head/"),
    ]
    if not big_vision:
        names[2] = (r"^pos_embed$", "Transformer/posembed_input/pos_embedding")
    apart: State = {}
    for name, tensor in state.items():
        if found := re.search(r"\.(q?kv)\.", name):
            pieces = tensor.chunk(len(found[1]))
            for part, piece in zip(found[1], pieces, strict=True):
                apart[name.replace(f".{found[1]}.", f".{part}.")] = piece
        else:
            apart[name] = tensor
    new = {}
    for name, tensor in renamed(names, apart).items():
        width = tensor.shape[-1]
        if name.endswith("weight"):
            kernel = tensor.ndim > 1
            name = name[: -len("weight")] + ("kernel" if kernel else "scale")
            if kernel:
                tensor = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        if "DotProduct" in name:
            if name.endswith("out/kernel"):
                tensor = tensor.reshape(heads, -1, width)
            elif not name.endswith("out/bias"):
                tensor = tensor.reshape(*tensor.shape[:-1], heads, -1)
        new[name] = tensor
    if scanned:
        block = r"Transformer/encoderblock_\d+/"
        leaves = {re.sub(block, "", name) for name in new if re.match(block, name)}
        depth = len({name.split("/")[1] for name in new if re.match(block, name)})
        stacks = {
            f"Transformer/encoderblock/{leaf}": torch.stack(
                [new.pop(f"Transformer/encoderblock_{i}/{leaf}") for i in range(depth)]
            )
            for leaf in sorted(leaves)
        }
        new |= stacks
    return {f"params/{name}": t for name, t in new.items()} if big_vision else new


def _case(
    reference: str,
    model: nn.Module,
    ours: str,
    fields: dict[str, Any],
    size: tuple[int, int],
    format: str,
    watched: dict[str, str],
    state: Callable[[State], State] = lambda state: state,
    suffix: str = ".safetensors",
    grid: tuple[int, int] | None = None,
) -> Case:
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # else there is no attention map
    return Case(
        reference,
        model,
        ours,
        fields,
        (1 if size == SIZE else 2, 3, *size),
        format,
        suffix,
        watched,
        state=state,
        inferred=True,
        grid=grid,
    )


def reader(model: nn.Module, format: str) -> nn.Module:
    """The network that reads a file of ``format``: ``model``, or its like of another project."""
    if format == "torchvision" and isinstance(model, VisionTransformer):
        found = torchvision.models.VisionTransformer(
            model.patch_embed.img_size[0],
            model.patch_embed.patch_size[0],
            len(model.blocks),
            model.blocks[0].attn.num_heads,
            model.embed_dim,
            model.blocks[0].mlp.fc1.out_features,
            num_classes=model.num_classes,
        )
        if not model.num_classes:
            found.heads = nn.Identity()
        return found
    if format == "timm" and isinstance(model, torchvision.models.VisionTransformer):
        block = model.encoder.layers[0]
        return VisionTransformer(
            model.image_size,
            model.patch_size,
            num_classes=model.num_classes,
            embed_dim=model.hidden_dim,
            depth=len(model.encoder.layers),
            num_heads=block.num_heads,
            mlp_ratio=model.mlp_dim / model.hidden_dim,
        )
    return model


SIZE = (224, 224)


def _timm(name: str, ours: str, note: str = "", **options: Any) -> Case:
    keep = ("state", "fields", "suffix", "format")
    ways = {key: options.pop(key) for key in keep if key in options}
    fields = ways.pop("fields", {})
    if "depth" in options:
        fields = {**fields, "depth": options["depth"]}
    model = timm.create_model(name, **options)
    format = ways.pop("format", "timm")
    shown = f"timm `{name}`{note}"
    return _case(shown, model, ours, fields, SIZE, format, TIMM, **ways)


def _torchvision(name: str, ours: str) -> Case:
    model = getattr(torchvision.models, name)()
    reference = f"torchvision `{name}`"
    return _case(reference, model, ours, {}, SIZE, "torchvision", TORCHVISION, published, ".pth")


def _huggingface(name: str, ours: str, fields: dict[str, Any], **config: Any) -> Case:
    cls = getattr(transformers, name)
    model = Answer(cls(cls.config_class(image_size=224, **config)))
    reference = f"transformers `{name}`"
    return _case(reference, model, ours, fields, SIZE, "huggingface", HUGGINGFACE, older)


_SMALL_HF = {"hidden_size": 384, "num_attention_heads": 6}
_NO_HEAD: dict[str, Any] = {"num_classes": 0}
_DINOV2: dict[str, Any] = {**_NO_HEAD, "patch_size": 14, "layer_scale": 1e-5}
_TANH = partial(nn.GELU, approximate="tanh")
VIT_CASES: dict[str, Build] = {
    **{
        f"vit_{ours}": partial(_timm, f"vit_{size}_patch{patch}_224", f"vit_{ours}")
        for ours, size, patch in (
            ("ti16", "tiny", 16),
            ("s16", "small", 16),
            ("s32", "small", 32),
            ("b8", "base", 8),
            ("b16", "base", 16),
            ("b32", "base", 32),
            ("l16", "large", 16),
            ("l32", "large", 32),
        )
    },
    # Of 632 and of 1,011 million parameters, eight and four blocks leave 161 and 102 million.
    "vit_h14": partial(_timm, "vit_huge_patch14_224", "vit_h14", ", 8 blocks", depth=8),
    "vit_g14": partial(_timm, "vit_giant_patch14_224", "vit_g14", ", 4 blocks", depth=4),
    "deit_s16": partial(_timm, "deit_small_patch16_224", "vit_s16"),
    "deit3_s16": partial(_timm, "deit3_small_patch16_224", "vit_s16"),
    "dino_s16": partial(
        _timm, "vit_small_patch16_224", "vit_s16", " without head, as DINO", num_classes=0
    ),
    "mae_b16": partial(
        _timm,
        "vit_base_patch16_224",
        "vit_b16",
        " with `fc_norm`, as MAE fine-tuned",
        global_pool="avg",
    ),
    "dinov2_s14": partial(
        _timm,
        "vit_small_patch14_dinov2",
        "vit_s16",
        ", DINOv2's names",
        img_size=224,
        state=dinov2,
        fields={"patch_size": 14},
    ),
    "dinov2_reg_s14": partial(
        _timm,
        "vit_small_patch14_reg4_dinov2",
        "vit_s16",
        ", DINOv2's names",
        img_size=224,
        state=dinov2,
        fields={"patch_size": 14},
    ),
    "siglip_b16": partial(
        _timm, "vit_base_patch16_siglip_224", "vit_b16", act_layer="gelu", fields={}
    ),
    "npz_b16": partial(
        _timm,
        "vit_base_patch16_224",
        "vit_b16",
        ", tanh GELU, vision_transformer's names",
        act_layer=_TANH,
        state=partial(flax, 12, False),
        suffix=".weights.npz",
        format="npz",
    ),
    "big_vision_b16": partial(
        _timm,
        "vit_base_patch16_siglip_224",
        "vit_b16",
        ", tanh GELU, big_vision's names",
        act_layer=_TANH,
        state=partial(flax, 12, True, scanned=True),
        suffix=".weights.npz",
        format="big_vision",
    ),
    **{
        f"torchvision_{ours}": partial(_torchvision, f"vit_{size}", f"vit_{ours}")
        for ours, size in (("b16", "b_16"), ("b32", "b_32"), ("l16", "l_16"), ("l32", "l_32"))
    },
    "hf_vit_b16": partial(_huggingface, "ViTForImageClassification", "vit_b16", {}),
    "hf_deit_s16": partial(
        _huggingface,
        "DeiTForImageClassification",
        "vit_s16",
        {},
        **_SMALL_HF,
        intermediate_size=1536,
    ),
    "hf_mae_b16": partial(_huggingface, "ViTMAEModel", "vit_b16", {}, mask_ratio=0.0),
    "hf_dinov2_s14": partial(
        _huggingface, "Dinov2Model", "vit_s16", {"patch_size": 14}, **_SMALL_HF, patch_size=14
    ),
    "hf_dinov2_reg_s14": partial(
        _huggingface,
        "Dinov2WithRegistersForImageClassification",
        "vit_s16",
        {"patch_size": 14},
        **_SMALL_HF,
        patch_size=14,
    ),
}


# ------------------------------------------------------------- networks of a few thousand weights


def _small_timm(
    size: tuple[int, int] = (16, 16),
    fields: dict[str, Any] | None = None,
    state: Callable[[State], State] = lambda state: state,
    format: str = "timm",
    suffix: str = ".safetensors",
    hidden: int = 0,
    **options: Any,
) -> Case:
    options = {"patch_size": 4, **options}
    model = VisionTransformer(
        img_size=size, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2, num_classes=5, **options
    )
    if hidden:
        model.head = nn.Sequential(nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, 5))
    fields = {"num_heads": 2, **(fields or {})}
    grid = None if size[0] == size[1] else model.patch_embed.grid_size
    return _case("timm", model, "ViT", fields, size, format, TIMM, state, suffix, grid)


def _small_torchvision(hidden: int | None) -> Case:
    model = torchvision.models.VisionTransformer(
        16, 4, 2, 2, 8, 16, num_classes=5, representation_size=hidden
    )
    fields = {"num_heads": 2}
    state = published if hidden else lambda state: state
    kind = ("torchvision", TORCHVISION, state, ".pth")
    return _case("torchvision", model, "ViT", fields, (16, 16), *kind)


def _small_huggingface(name: str, state: Callable[[State], State] = older, **config: Any) -> Case:
    cls = getattr(transformers, name)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": 16, "patch_size": 4}
    if not name.startswith("Dinov2"):
        sizes |= {"intermediate_size": 16}
    model = Answer(cls(cls.config_class(**sizes, mlp_ratio=2, num_labels=5, **config)))
    kind = ("huggingface", HUGGINGFACE, state)
    return _case(name, model, "ViT", {"num_heads": 2}, (16, 16), *kind)


_SCALED: dict[str, Any] = {"init_values": 0.1}
VIT_SMALL: dict[str, Build] = {
    "vit_timm_token": partial(_small_timm, (16, 12)),
    "vit_timm_mean": partial(
        _small_timm,
        (12, 16),
        {"gelu": "tanh"},
        hidden_head,
        hidden=6,
        patch_size=(4, 2),
        global_pool="avg",
        fc_norm=False,
        class_token=False,
        reg_tokens=3,
        no_embed_class=True,
        qk_norm=True,
        act_layer=_TANH,
        **_SCALED,
    ),
    "vit_timm_map": partial(_small_timm, global_pool="map", class_token=False),
    "vit_timm_registers": partial(_small_timm, reg_tokens=2, no_embed_class=True),
    "vit_timm_registers_with_positions": partial(_small_timm, reg_tokens=2),
    "vit_timm_fc_norm": partial(_small_timm, global_pool="avg", qkv_bias=False),
    "vit_deit3": partial(
        _small_timm,
        state=partial(renamed, [(r"\.ls(\d)\.gamma", r".gamma_\1")]),
        no_embed_class=True,
        **_SCALED,
    ),
    "vit_dinov2": partial(_small_timm, state=dinov2, **_SCALED),
    "vit_dinov2_registers": partial(
        _small_timm, state=dinov2, reg_tokens=2, no_embed_class=True, **_SCALED
    ),
    "vit_npz_token": partial(
        _small_timm,
        (16, 12),
        state=partial(flax, 2, False),
        format="npz",
        suffix=".weights.npz",
        act_layer=_TANH,
    ),
    "vit_big_vision_map": partial(
        _small_timm,
        state=partial(flax, 2, True, scanned=True),
        format="big_vision",
        suffix=".weights.npz",
        act_layer=_TANH,
        global_pool="map",
        class_token=False,
    ),
    "vit_big_vision_token": partial(
        _small_timm,
        state=partial(flax, 2, True),
        format="big_vision",
        suffix=".weights.npz",
        act_layer=_TANH,
        no_embed_class=True,
    ),
    "vit_torchvision": partial(_small_torchvision, None),
    "vit_torchvision_hidden": partial(_small_torchvision, 6),
    "vit_hf": partial(_small_huggingface, "ViTForImageClassification"),
    "vit_hf_5": partial(_small_huggingface, "ViTModel", unwrapped),
    "vit_hf_deit": partial(_small_huggingface, "DeiTForImageClassification"),
    "vit_hf_mae": partial(_small_huggingface, "ViTMAEModel", mask_ratio=0.0),
    "vit_hf_dinov2": partial(_small_huggingface, "Dinov2ForImageClassification"),
    "vit_hf_dinov2_registers": partial(
        _small_huggingface, "Dinov2WithRegistersModel", unwrapped, num_register_tokens=2
    ),
}
