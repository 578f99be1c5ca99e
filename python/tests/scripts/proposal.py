"""Script (e): the layers to raise are proposed."""

from rknn.api import RKNN

MODEL = 'model.onnx'
INPUT = 'input'
SIZE = [1, 1, 28, 28]
MEAN = [[72.93]]
STD = [[90.015]]

if __name__ == '__main__':
    rknn = RKNN(verbose=False)
    rknn.config(mean_values=MEAN, std_values=STD, target_platform='rk3588')
    ret = rknn.load_onnx(model=MODEL, inputs=[INPUT], input_size_list=[SIZE])
    if ret != 0:
        print('Load model failed!')
        exit(ret)
    ret = rknn.hybrid_quantization_step1(dataset='dataset.txt', proposal=True, proposal_dataset_size=1)
    if ret != 0:
        print('hybrid_quantization_step1 failed!')
        exit(ret)
    rknn.release()

    rknn = RKNN(verbose=False)
    rknn.config(mean_values=MEAN, std_values=STD, target_platform='rk3588')
    ret = rknn.hybrid_quantization_step2(model_input='./model.model',
                                         data_input='./model.data',
                                         model_quantization_cfg='./model.quantization.cfg')
    if ret != 0:
        print('hybrid_quantization_step2 failed!')
        exit(ret)
    ret = rknn.accuracy_analysis(inputs=['test.png'], output_dir='./snapshot')
    if ret != 0:
        print('Accuracy analysis failed!')
        exit(ret)
    rknn.release()
