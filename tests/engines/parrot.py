"""A small language model that is written, not trained: it recites a script, token after token.

    python -m tests.engines.parrot FOLDER [--checkpoint]

`parrot.gguf` is for llama.cpp; with --checkpoint the same model is written for vLLM and
transformers, too. Both take a second and some 9 MB, and need no network.

How it works. A decoder of one layer whose residual stream has one coordinate for each token of the
script (all other tokens share one), and one for each cue. The output matrix is then a table: "after
this token, that one". An attention head looks for the token of a cue; when it is found, the head
writes to the cue's coordinate, and that raises or lowers tokens of the same table. So each token of
the script stands in it once, and its texts are cut accordingly (`Script.cut`).
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from .script import (
    CLOSING,
    CUES,
    END,
    KINDS,
    OUTCOME,
    ROLES,
    TERSE,
    TOOLS,
    Script,
    script,
)

Matrix = npt.NDArray[np.float32]

TEMPLATE = Path(__file__).with_name("template.jinja")
CONTEXT_TOKENS = 65_536

WIDTH, HEADS, HEAD_WIDTH, INNER_WIDTH = 256, 4, 32, 32
OTHER = 0
"""The coordinate of the tokens that are not in the script."""
FOUND = 0.5
"""What a head writes to the coordinate of its cue."""


def tokenizer(made: Script) -> Tokenizer:
    """Byte pairs of Python's documentation: a prompt has some four characters per token."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator(topics.values(), trainer)
    found.add_special_tokens([AddedToken(role, special=True, normalized=False) for role in ROLES])
    found.add_tokens([AddedToken(token, normalized=False) for token in made.tokens])
    return found


def weights(made: Script, words: Tokenizer) -> dict[str, Matrix]:
    """All matrices of the model but those that do nothing, by their names in `tensors`."""
    size = words.get_vocab_size()
    ids = words.get_vocab()
    coordinates = {token: n for n, token in enumerate((*ROLES, *made.tokens), start=OTHER + 1)}
    cues = {cue: WIDTH - len(CUES) + n for n, cue in enumerate(CUES)}
    assert len(coordinates) < WIDTH - len(CUES), "the script has too many tokens"

    embedding = np.zeros((size, WIDTH), np.float32)
    embedding[:, OTHER] = 1
    for token, coordinate in coordinates.items():
        embedding[ids[token], (OTHER, coordinate)] = 0, 1

    # A normalised vector with one coordinate has sqrt(WIDTH) there. The last coordinate of a head
    # is the one that the position turns least, which is not at all for the base that is set.
    one = math.sqrt(WIDTH)
    q, k, v = (np.zeros((HEADS * HEAD_WIDTH, WIDTH), np.float32) for _ in range(3))
    o = np.zeros((WIDTH, HEADS * HEAD_WIDTH), np.float32)
    for head, found in enumerate(((TOOLS,), (OUTCOME,), (TERSE,), KINDS)):
        first, last = head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH - 1
        q[last, : WIDTH - len(CUES)] = 1
        for row, cue in enumerate(found, start=first):
            k[last, coordinates[cue]] = 1
            v[row, coordinates[cue]] = FOUND / one
            o[cues[cue], row] = 1

    output = np.zeros((size, WIDTH), np.float32)
    for token, weight in CLOSING.items():
        if token in ids:
            output[ids[token], : WIDTH - len(CUES)] = weight
    for (before, token), weight in made.follows.items():
        output[ids[token], OTHER if before is None else coordinates[before]] = weight
    for (cue, token), weight in made.cued.items():
        output[ids[token], cues[cue]] = weight / FOUND
    return {"embedding": embedding, "output": output, "q": q, "k": k, "v": v, "o": o}


def tensors(matrices: dict[str, Matrix], names: dict[str, str]) -> Iterator[tuple[str, Matrix]]:
    """The tensors under an engine's names. The feed-forward part adds nothing."""
    ones = np.ones(WIDTH, np.float32)
    wide = np.zeros((INNER_WIDTH, WIDTH), np.float32)
    idle = {"gate": wide, "up": wide, "down": np.ascontiguousarray(wide.T)}
    norms = {"norm": ones, "attention_norm": ones, "inner_norm": ones}
    for name, tensor in {**matrices, **idle, **norms}.items():
        yield f"{names[name]}.weight", tensor


GGUF_NAMES = {
    "embedding": "token_embd",
    "output": "output",
    "norm": "output_norm",
    "attention_norm": "blk.0.attn_norm",
    "inner_norm": "blk.0.ffn_norm",
    "o": "blk.0.attn_output",
    **{name: f"blk.0.attn_{name}" for name in "qkv"},
    **{name: f"blk.0.ffn_{name}" for name in ("gate", "up", "down")},
}

CHECKPOINT_NAMES = {
    "embedding": "model.embed_tokens",
    "output": "lm_head",
    "norm": "model.norm",
    "attention_norm": "model.layers.0.input_layernorm",
    "inner_norm": "model.layers.0.post_attention_layernorm",
    **{name: f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"},
    **{name: f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")},
}

ROPE_BASE = 1e30
NORM_EPSILON = 1e-6


def write_gguf(file: Path, made: Script, words: Tokenizer, template: str) -> None:
    """The model for llama.cpp."""
    import gguf

    kinds = dict.fromkeys(ROLES, gguf.TokenType.CONTROL)
    kinds |= dict.fromkeys(made.tokens, gguf.TokenType.USER_DEFINED)
    listed = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    merges = json.loads(words.to_str())["model"]["merges"]

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("parrot")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER_WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_vocab_size(len(listed))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(listed)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in listed])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(words.token_to_id(ROLES[0]))
    writer.add_eos_token_id(words.token_to_id(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    for name, tensor in tensors(weights(made, words), GGUF_NAMES):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_checkpoint(folder: Path, made: Script, words: Tokenizer, template: str) -> None:
    """The model for vLLM and transformers. A safetensors file is a header in JSON, and the bytes."""
    listed = dict(tensors(weights(made, words), CHECKPOINT_NAMES))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in listed.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.writelines(tensor.tobytes() for tensor in listed.values())

    begin_id, end_id = words.token_to_id(ROLES[0]), words.token_to_id(END)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER_WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_WIDTH,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_BASE,
        "max_position_embeddings": CONTEXT_TOKENS,
        "vocab_size": words.get_vocab_size(),
        "tie_word_embeddings": False,
        "bos_token_id": begin_id,
        "eos_token_id": end_id,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    files = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end_id, "do_sample": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": ROLES[0],
            "eos_token": END,
            "pad_token": ROLES[0],
            "chat_template": template,
            "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": False,
        },
    }
    words.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), "utf-8")


def write_model(folder: Path, *, checkpoint: bool = False) -> Path:
    """Write `parrot.gguf`, or the checkpoint; the path that an engine is given."""
    folder.mkdir(parents=True, exist_ok=True)
    made = script()
    words = tokenizer(made)
    template = TEMPLATE.read_text("utf-8")
    if checkpoint:
        write_checkpoint(folder, made, words, template)
        return folder
    file = folder / "parrot.gguf"
    write_gguf(file, made, words, template)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a small model that recites a script.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", action="store_true", help="for vLLM and transformers")
    asked = parser.parse_args()
    print(write_model(asked.folder, checkpoint=asked.checkpoint))


if __name__ == "__main__":
    main()
