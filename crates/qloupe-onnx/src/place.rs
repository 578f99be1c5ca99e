//! Where in a model a reader is, for messages: `graph.node[3].attribute[0].t`.

use std::fmt;

/// A field of a message, linked to the message it lies in. It lives on the stack; only an error formats it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    name: &'static str,
    idx: Option<usize>,
}

impl<'a> Place<'a> {
    /// The outermost message.
    pub(crate) fn root(name: &'static str) -> Self {
        Self {
            parent: None,
            name,
            idx: None,
        }
    }

    /// A singular field of this message.
    pub(crate) fn field(&'a self, name: &'static str) -> Self {
        Self {
            parent: Some(self),
            name,
            idx: None,
        }
    }

    /// An element of a repeated field of this message.
    pub(crate) fn item(&'a self, name: &'static str, idx: usize) -> Self {
        Self {
            parent: Some(self),
            name,
            idx: Some(idx),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent
            && parent.parent.is_some()
        {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)?;
        match self.idx {
            Some(idx) => write!(f, "[{idx}]"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_named_only_when_it_is_alone() {
        let model = Place::root("model");
        let graph = model.field("graph");
        let node = graph.item("node", 3);
        assert_eq!(model.to_string(), "model");
        assert_eq!(node.field("name").to_string(), "graph.node[3].name");
    }
}
