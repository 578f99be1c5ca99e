"""Script (a): mean and std, int8 on a dataset.txt, the error of every layer on one image."""

from rknn.api import RKNN

MODEL = 'model.onnx'
INPUT = 'input'
SIZE = [1, 1, 28, 28]
MEAN = [[72.93]]
STD = [[90.015]]

if __name__ == '__main__':
    rknn = RKNN(verbose=False)

    print('--> Config model')
    rknn.config(mean_values=MEAN, std_values=STD, target_platform='rk3588')
    print('done')

    print('--> Loading model')
    ret = rknn.load_onnx(model=MODEL, inputs=[INPUT], input_size_list=[SIZE])
    if ret != 0:
        print('Load model failed!')
        exit(ret)
    print('done')

    print('--> Building model')
    ret = rknn.build(do_quantization=True, dataset='dataset.txt')
    if ret != 0:
        print('Build model failed!')
        exit(ret)
    print('done')

    print('--> Accuracy analysis')
    ret = rknn.accuracy_analysis(inputs=['test.png'], output_dir='./snapshot')
    if ret != 0:
        print('Accuracy analysis failed!')
        exit(ret)
    print('done')

    rknn.release()
