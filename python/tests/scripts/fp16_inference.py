"""Script (b): fp16, one run of an array as cv2 gives it, the outputs kept to be compared with the float model."""

import numpy as np
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
    ret = rknn.build(do_quantization=False)
    if ret != 0:
        print('Build model failed!')
        exit(ret)
    ret = rknn.init_runtime()
    if ret != 0:
        print('Init runtime environment failed!')
        exit(ret)

    # img = cv2.imread(..); img = cv2.cvtColor(img, cv2.COLOR_BGR2RGB)
    img = np.load('image.npy')
    img = np.expand_dims(img, 0)
    outputs = rknn.inference(inputs=[img])
    for i, output in enumerate(outputs):
        np.save('output_{}.npy'.format(i), output)
    ret = rknn.accuracy_analysis(inputs=['test.png'], output_dir='./snapshot')
    if ret != 0:
        print('Accuracy analysis failed!')
        exit(ret)
    rknn.release()
