"""Writes tests/models/goldens/keras/: tiny models of seeded random weights as Keras saves them (.keras and .h5, sequential and functional), and what they
compute.

  pip install keras h5py torch && KERAS_BACKEND=torch python3 tools/goldens/keras_models.py
"""
import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np
from keras import layers

folder = pathlib.Path(__file__).parents[2] / "tests/models/goldens/keras"
folder.mkdir(exist_ok=True)


def sequential():
    return keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization(),
                             layers.MaxPooling2D(), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Activation("gelu"), layers.Dropout(0.5), layers.Flatten(),
                             layers.Dense(5, activation="tanh"), layers.Dense(3, activation="softmax", use_bias=False)])


def functional():
    image, numbers = keras.Input((6, 6, 1), name="image"), keras.Input((3,), name="numbers")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.LeakyReLU()(x)
    skip = layers.Conv2D(4, 1)(x)
    x = layers.Add()([x, skip])
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(4, activation="silu")(numbers)
    y = layers.LayerNormalization()(y)
    both = layers.Concatenate()([x, y])
    both = layers.Multiply()([both, layers.Dense(8, activation="sigmoid", name="gate")(both)])
    return keras.Model([image, numbers], [layers.Dense(2, name="scores")(both), layers.Dense(1, activation="softplus", name="size")(both)])


def tokens():
    ids = keras.Input((5,), dtype="int32", name="ids")
    x = layers.Embedding(7, 4)(ids)
    x = layers.Reshape((20,))(x)
    return keras.Model(ids, layers.ReLU()(layers.Dense(3)(x)))


def more_layers():
    image = keras.Input((9, 9, 3), name="image")
    x = layers.ZeroPadding2D(((1, 0), (2, 1)))(image)
    x = layers.SeparableConv2D(5, 3, padding="same", activation="relu")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Cropping2D(1)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.ELU()(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Reshape((3, -1))(x)
    return keras.Model(image, layers.Softmax(axis=-1)(layers.Average()([x, layers.Minimum()([x, layers.ReLU(max_value=1.0)(x)])])))


def recurrent():
    x = keras.Input((6, 3), name="x")
    y = layers.LSTM(4, return_sequences=True)(x)
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True))(y)
    y = layers.Conv1D(5, 3, padding="causal")(y)
    y = layers.SimpleRNN(4)(y)
    return keras.Model(x, layers.Dense(2)(y))


for seed, make in enumerate((sequential, functional, tokens, more_layers, recurrent)):
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = make()
    for weight in model.weights:
        values = rng.normal(0, 0.5, weight.shape).astype(np.float32)
        if weight.path.endswith("moving_variance"):
            values = np.abs(values) + 0.5
        if not weight.path.endswith(("seed_generator_state",)):
            weight.assign(values)
    inputs = []
    for x in model.inputs:
        shape = (2, *x.shape[1:])
        inputs.append(rng.integers(0, 7, shape).astype(np.int32) if x.dtype.startswith("int") else rng.normal(0, 1, shape).astype(np.float32))
    results = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    results = results if isinstance(results, (list, tuple)) else [results]
    name = make.__name__
    model.save(folder / f"{name}.keras")
    model.save(folder / f"{name}.h5")
    (folder / f"{name}.json").write_text(json.dumps({
        "inputs": [{"shape": list(x.shape), "values": x.flatten().tolist()} for x in inputs],
        "results": [{"shape": list(r.shape), "values": keras.ops.convert_to_numpy(r).flatten().tolist()} for r in results]}))
print({p.name: p.stat().st_size for p in sorted(folder.iterdir())})
