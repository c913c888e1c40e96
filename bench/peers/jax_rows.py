"""Single ops in JAX: jax_rows.py jax ROW THREADS FOLDER (protocol: rows.py)"""
import os
import sys

import rows

ROW, THREADS, FOLDER = sys.argv[2], int(sys.argv[3]), sys.argv[4]
if THREADS == 1:  # before the import; more threads than cores it does not take anyway
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"


def layer_norm(x, w, b):
    import jax.numpy as jnp

    centered = x - jnp.mean(x, -1, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered * centered, -1, keepdims=True) + 1e-5) * w + b


def calls():
    import jax
    import jax.numpy as jnp

    return {
        "softmax": lambda x: jax.nn.softmax(x["x"], -1),
        "layer_norm": lambda x: layer_norm(x["x"], x["w"], x["b"]),
        "gelu_bias": lambda x: jax.nn.gelu(x["x"] + x["b"], approximate=False),
        "cross_entropy": lambda x: -jnp.mean(
            jnp.take_along_axis(jax.nn.log_softmax(x["x"], -1), x["y"][:, None], -1)),
        "matmul_f32": lambda x: x["a"] @ x["b"],
    }


def main():
    name = "matmul_f32" if ROW.startswith("matmul_f32") else ROW.removesuffix("_cached")
    if name not in ("softmax", "layer_norm", "gelu_bias", "cross_entropy", "matmul_f32"):
        return rows.absent("JAX has no such row")
    import jax

    jax.config.update("jax_enable_x64", True)  # labels are i64; floats stay f32
    call = jax.jit(calls()[name])
    x = {key: jax.device_put(value) for key, value in
         rows.load_arrays(os.path.join(FOLDER, "inputs.safetensors")).items()}
    inner = 20 if ROW.endswith("_cached") else 1
    error = rows.compare(FOLDER, "y", call(x), 1e-3 if name == "matmul_f32" else 1e-4)

    def run():
        for _ in range(inner):
            call(x).block_until_ready()

    rows.answer(run, inner, settings=f"jax {jax.__version__} jit, {THREADS} threads", error=error)


main()
