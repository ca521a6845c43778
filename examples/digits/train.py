#!/usr/bin/env python3
"""Trains the model of this folder: which digit is drawn in an 8x8 grey picture.

A perceptron 64-1024-1024-10 on the digits that scikit-learn ships (UCI's "Optical Recognition of Handwritten Digits").
Takes X, [n, 64] f32, the pixels row by row from 0 (paper) to 1 (ink); gives label, [n] i64, and probabilities, [n, 10] f32.
Needs: pip install numpy scikit-learn skl2onnx. The weights differ in their last digits from machine to machine.
"""
import pathlib
import numpy
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

pixels, labels = load_digits(return_X_y=True)
pixels = (pixels / 16).astype(numpy.float32)
train_pixels, test_pixels, train_labels, test_labels = train_test_split(pixels, labels, test_size=0.25, random_state=0)
model = MLPClassifier((1024, 1024), max_iter=8, random_state=0, batch_size=64).fit(train_pixels, train_labels)
print("accuracy on pictures that it was not trained on:", model.score(test_pixels, test_labels))
onnx = to_onnx(model, train_pixels[:1], options={"zipmap": False}, target_opset=17)
pathlib.Path(__file__).with_name("model.onnx").write_bytes(onnx.SerializeToString())
