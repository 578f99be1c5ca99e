//! Reading of TOML tables key by key: a key that nobody asks for is an error with the nearest name.

use toml::{Table, Value};

use super::RecipeError;

/// The keys of one table. Every getter consumes its key.
pub(super) struct Keys<'a> {
    origin: &'a str,
    path: String,
    table: Table,
    asked: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(origin: &'a str, path: impl Into<String>, table: Table) -> Self {
        Self {
            origin,
            path: path.into(),
            table,
            asked: Vec::new(),
        }
    }

    /// An error at a key of this table.
    pub(super) fn error(&self, key: &str, what: impl Into<String>) -> RecipeError {
        RecipeError::Value {
            origin: self.origin.to_owned(),
            key: self.full(key),
            what: what.into(),
        }
    }

    pub(super) fn table(&mut self, key: &'static str) -> Result<Table, RecipeError> {
        match self.take(key) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(other) => Err(self.wrong(key, &other, "a table")),
        }
    }

    pub(super) fn bool(&mut self, key: &'static str) -> Result<Option<bool>, RecipeError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong(key, &other, "true or false")),
        }
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<f32>, RecipeError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        self.finite(key, &value).map(Some)
    }

    /// A number in double precision: whole numbers stay exact.
    pub(super) fn real(&mut self, key: &'static str) -> Result<Option<f64>, RecipeError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        self.finite_real(key, &value).map(Some)
    }

    /// A list of numbers, or one number.
    pub(super) fn numbers(&mut self, key: &'static str) -> Result<Vec<f32>, RecipeError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) if values.is_empty() => {
                Err(self.error(key, "the list is empty, expected a number for each channel"))
            }
            Some(Value::Array(values)) => values.iter().map(|value| self.finite(key, value)).collect(),
            Some(value) => Ok(vec![self.finite(key, &value)?]),
        }
    }

    /// A whole number from 1 (or 0) to `most`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        least: usize,
        most: usize,
    ) -> Result<Option<usize>, RecipeError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        self.whole(key, &value, least, most).map(Some)
    }

    /// Two whole numbers from 1 to `most`.
    pub(super) fn pair(&mut self, key: &'static str, most: usize) -> Result<Option<[usize; 2]>, RecipeError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(values)) if values.len() == 2 => Ok(Some([
                self.whole(key, &values[0], 1, most)?,
                self.whole(key, &values[1], 1, most)?,
            ])),
            Some(other) => Err(self.wrong(key, &other, "[height, width]")),
        }
    }

    /// One of some names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, RecipeError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let names = || choices.iter().map(|(name, _)| *name);
        let expected = names()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let Value::String(got) = &value else {
            return Err(self.wrong(key, &value, &format!("one of {expected}")));
        };
        match choices.iter().find(|(name, _)| name == got) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let help = qloupe_ir::suggestion(got, names());
                Err(self.error(
                    key,
                    format!("\"{got}\" is unknown, expected one of {expected}{help}"),
                ))
            }
        }
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) -> Result<(), RecipeError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(RecipeError::UnknownKey {
                origin: self.origin.to_owned(),
                key: self.full(key),
                help: qloupe_ir::suggestion(key, self.asked.iter().copied()),
            }),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn wrong(&self, key: &str, got: &Value, expected: &str) -> RecipeError {
        self.error(key, format!("wrong value, expected {expected}, got {got}"))
    }

    fn finite(&self, key: &str, value: &Value) -> Result<f32, RecipeError> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "preprocessing computes in f32; what overflows is refused below"
        )]
        let number = self.finite_real(key, value)? as f32;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(self.wrong(key, value, "a finite number"))
        }
    }

    fn finite_real(&self, key: &str, value: &Value) -> Result<f64, RecipeError> {
        let number = match value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            other => return Err(self.wrong(key, other, "a number")),
        };
        if number.is_finite() {
            Ok(number)
        } else {
            Err(self.wrong(key, value, "a finite number"))
        }
    }

    fn whole(&self, key: &str, value: &Value, least: usize, most: usize) -> Result<usize, RecipeError> {
        value
            .as_integer()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.wrong(key, value, &format!("a whole number from {least} to {most}")))
    }
}
