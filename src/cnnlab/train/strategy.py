"""Devices to a tf.distribute strategy: every visible GPU, else the CPU, whole or split into logical devices."""

import os

import tensorflow as tf

from cnnlab.errors import UserError


def strategy(replicas: int = 1) -> tf.distribute.Strategy:
    """MirroredStrategy over every visible GPU, or over `replicas` logical devices of the CPU where there is none.

    Call it before anything runs on a device: TensorFlow fixes threads and logical devices at the first operation.
    Raises UserError where the devices were already set up otherwise in this process.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(len(gpus))])
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        # As many threads as cores in both pools: TensorFlow's defaults oversubscribe small machines (DESIGN §5).
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise UserError(
                f"Cannot split the CPU into {replicas} replicas. Expected a fresh process. Received one in which "
                "TensorFlow already runs. Call strategy() first."
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
