//! Rust source without comments and literals, so that a rule sees code only. Lines keep their numbers.

/// The text with comments and the insides of string and character literals replaced by spaces.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' if !continues_word(&chars, at) => end_of_raw_string(&chars, at).unwrap_or(at),
            '\'' => end_of_char(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The numbers, from 1, of the lines of `code` that have `word` as a whole word.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| line.split(|c: char| !is_word(c)).any(|part| part == word);
    code.lines()
        .enumerate()
        .filter(|(_, line)| has(line))
        .map(|(i, _)| i + 1)
        .collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True when the character before `at` belongs to the same word; `br"..."` starts a literal all the same.
fn continues_word(chars: &[char], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| chars[i]);
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|&c| c == '\n')
        .map_or(chars.len(), |n| at + n)
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    let n_hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + n_hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |i: &usize| {
        chars[*i] == '"'
            && chars[i + 1..]
                .iter()
                .take(n_hashes)
                .filter(|&&c| c == '#')
                .count()
                == n_hashes
    };
    Some(
        (open + 1..chars.len())
            .find(closes)
            .map_or(chars.len(), |i| i + 1 + n_hashes),
    )
}

/// The end of a character literal; `None` for a lifetime.
fn end_of_char(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        // The escaped character itself may be a quote.
        return chars
            .get(at + 3..)?
            .iter()
            .position(|&c| c == '\'')
            .map(|n| at + 3 + n + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        struct Case {
            text: &'static str,
            has_word: bool,
        }
        let cases = [
            Case {
                text: "unsafe {}",
                has_word: true,
            },
            Case {
                text: "// unsafe",
                has_word: false,
            },
            Case {
                text: "/* a /* unsafe */ unsafe */ b",
                has_word: false,
            },
            Case {
                text: "/* a */ unsafe {}",
                has_word: true,
            },
            Case {
                text: r#"let s = "a \" unsafe";"#,
                has_word: false,
            },
            Case {
                text: r#"let s = "a \\"; unsafe {}"#,
                has_word: true,
            },
            Case {
                text: r##"let s = r#"a " unsafe"#;"##,
                has_word: false,
            },
            Case {
                text: r##"let s = br#"a"#; unsafe {}"##,
                has_word: true,
            },
            Case {
                text: r#"let c = '"'; unsafe {} let d = '"';"#,
                has_word: true,
            },
            Case {
                text: r"let c = '\''; unsafe {} let d = '\'';",
                has_word: true,
            },
            Case {
                text: "fn f<'a>(x: &'a str) { unsafe {} }",
                has_word: true,
            },
            Case {
                text: "#![deny(unsafe_code)]",
                has_word: false,
            },
            Case {
                text: r#"for"x"; unsafe {}"#,
                has_word: true,
            },
        ];
        for case in cases {
            let found = !lines_with_word(&code_of(case.text), "unsafe").is_empty();
            assert_eq!(found, case.has_word, "{}", case.text);
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let code = code_of("/* one\ntwo */\n\"three\nfour\" unsafe\n");
        assert_eq!(lines_with_word(&code, "unsafe"), [4]);
    }
}
