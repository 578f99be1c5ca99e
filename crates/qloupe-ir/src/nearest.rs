//! "Did you mean": the nearest of the valid names.

/// Longer names are not compared: the time grows with the square of the length.
const MAX_LENGTH: usize = 512;

/// The nearest of `choices` to `name`, if one is near enough to be a likely misspelling.
///
/// Edit distance (Levenshtein) of at most a third of the longer name, or a choice that contains the name.
pub fn nearest_name<'a>(name: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |choice: &'a str| {
        if name.len().max(choice.len()) > MAX_LENGTH {
            return None;
        }
        let distance = edit_distance(name, choice);
        let limit = name.chars().count().max(choice.chars().count()).div_ceil(3);
        let contains = name.len() >= 3 && choice.contains(name);
        (distance <= limit || contains).then_some((distance, choice))
    };
    choices
        .into_iter()
        .filter_map(near)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, choice)| choice)
}

/// `, did you mean "x"?` for an error message, or nothing.
pub fn suggestion<'a>(name: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    nearest_name(name, choices).map_or_else(String::new, |choice| format!(", did you mean \"{choice}\"?"))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_their_name_and_strangers_do_not() {
        let choices = ["images", "output0", "/model.0/conv/Conv_output_0"];
        assert_eq!(nearest_name("image", choices), Some("images"));
        assert_eq!(nearest_name("otput0", choices), Some("output0"));
        assert_eq!(
            nearest_name("model.0/conv", choices),
            Some("/model.0/conv/Conv_output_0")
        );
        assert_eq!(nearest_name("zzz", choices), None);
        assert_eq!(suggestion("image", choices), ", did you mean \"images\"?");
    }
}
