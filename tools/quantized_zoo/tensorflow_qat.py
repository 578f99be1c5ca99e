"""Trains with the fake quantization of TensorFlow Model Optimization, and converts with tf2onnx.

Usage: python tools/quantized_zoo/tensorflow_qat.py
Needs: tensorflow-cpu==2.15.1 tensorflow-model-optimization==0.8.0 tf_keras==2.15.1 tf2onnx==1.16.1 onnx==1.15.0 numpy<2 setuptools<80

Also writes the network before training with fake quantization, testdata/models/fmnist_tf.onnx.
"""
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf2onnx

from fashion_mnist import FLOAT, ZOO, images, labels

layers = tf.keras.layers
N_IMAGES = 8000


def network():
    """Depthwise separable convolutions, with batch normalization and ReLU6."""
    x = graph_input = layers.Input((28, 28, 1), name="input")
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(x)))
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)))
    x = skip = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(32, 1, use_bias=False)(x)))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(32, 3, padding="same", use_bias=False)(x)))
    x = layers.MaxPooling2D()(layers.Add()([x, skip]))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layers.Conv2D(32, 3, padding="same", use_bias=False)(x)))
    return tf.keras.Model(graph_input, layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x)))


def fit(model, n_epochs, rate):
    x = images("train", N_IMAGES).transpose(0, 2, 3, 1)
    model.compile(tf.keras.optimizers.legacy.Adam(rate), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, labels("train", N_IMAGES), batch_size=128, epochs=n_epochs, verbose=2)


def convert(model, path):
    signature = [tf.TensorSpec((None, 28, 28, 1), tf.float32, name="input")]
    tf2onnx.convert.from_keras(model, signature, opset=13, output_path=str(path), inputs_as_nchw=["input"])
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    tf.keras.utils.set_random_seed(0)
    model = network()
    fit(model, 4, 1e-2)
    convert(model, FLOAT / "fmnist_tf.onnx")
    quantized = tfmot.quantization.keras.quantize_model(model)
    fit(quantized, 1, 5e-4)
    convert(quantized, ZOO / "tf_qat.onnx")


if __name__ == "__main__":
    main()
