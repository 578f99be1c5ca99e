//! Every instruction set of this machine against the scalar specification, bit for bit.

mod bytes;
mod chain;
mod conv_f32;
mod conv_i8;
mod elementwise;
mod products;
mod quantized;
mod values;
