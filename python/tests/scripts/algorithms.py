"""Script (c): three algorithms and two methods."""

from rknn.api import RKNN

MODEL = 'model.onnx'
INPUT = 'input'
SIZE = [1, 1, 28, 28]
MEAN = [[72.93]]
STD = [[90.015]]

if __name__ == '__main__':
    for algorithm in ['normal', 'mmse', 'kl_divergence']:
        for method in ['layer', 'channel']:
            rknn = RKNN()
            rknn.config(mean_values=MEAN, std_values=STD, target_platform='rk3588',
                        quantized_dtype='asymmetric_quantized-8',
                        quantized_algorithm=algorithm, quantized_method=method)
            ret = rknn.load_onnx(model=MODEL, inputs=[INPUT], input_size_list=[SIZE])
            if ret != 0:
                exit(ret)
            ret = rknn.build(do_quantization=True, dataset='dataset.txt')
            if ret != 0:
                exit(ret)
            ret = rknn.accuracy_analysis(inputs=['test.png'],
                                         output_dir='./snapshot_{}_{}'.format(algorithm, method))
            if ret != 0:
                exit(ret)
            rknn.release()
