//! The program from outside: its help, its errors, and whole workflows on small models.

#[cfg(test)]
mod arguments;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod bits;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod comparison;
#[cfg(test)]
mod confidence;
#[cfg(test)]
mod evaluate;
#[cfg(test)]
mod export;
#[cfg(test)]
mod help;
#[cfg(test)]
mod inputs;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod mixed_fp16;
#[cfg(test)]
mod models;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod quantized;
#[cfg(test)]
mod ranges;
#[cfg(test)]
mod report_schema;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod weight_only;
#[cfg(test)]
mod workflow;
