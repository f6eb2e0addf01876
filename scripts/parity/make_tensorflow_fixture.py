"""Write a checkpoint of TensorFlow with the names of cbfinn/maml, and its values.

    python -m scripts.parity.make_tensorflow_fixture tests/weights/fixtures/tf_maml

Wants TensorFlow (the fixture in the repository: 2.21.0). Writes ``tf_maml.index``,
``tf_maml.data-00000-of-00001`` and ``tf_maml.values.npz``.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf

FILTERS, CLASSES, SIDE = 4, 5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    rng, tf1 = np.random.default_rng(0), tf.compat.v1

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    with tf.Graph().as_default(), tf1.Session() as session:
        with tf1.variable_scope("model"):
            for i in range(1, 5):
                kernel = drawn(3, 3, 3 if i == 1 else FILTERS, FILTERS)
                tf1.get_variable(f"conv{i}", initializer=kernel)
                tf1.Variable(drawn(FILTERS))
            tf1.get_variable("w5", initializer=drawn(FILTERS * SIDE**2, CLASSES))
            tf1.Variable(drawn(CLASSES))
            for i in range(4):
                with tf1.variable_scope(str(i)):
                    tf1.get_variable("beta", initializer=drawn(FILTERS))
                    tf1.get_variable("moving_mean", initializer=np.zeros(FILTERS, np.float32))
                    tf1.get_variable("moving_variance", initializer=np.ones(FILTERS, np.float32))
        tf1.get_variable("global_step", initializer=np.int64(7))
        tf1.get_variable("words", initializer=tf.constant("text"))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(path), write_meta_graph=False, write_state=False)
        values = {v.op.name: session.run(v) for v in tf1.global_variables()}
    del values["words"]
    np.savez_compressed(path.with_name(f"{path.name}.values.npz"), **values)


if __name__ == "__main__":
    main()
