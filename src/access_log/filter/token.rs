//! The text of an expression → its words.

use super::parse::{FilterError, fail};

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Number(i64),
    Text(String),
    Sign(&'static str),
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Name(name) => format!("`{name}`"),
            Token::Number(number) => format!("`{number}`"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        }
    }
}

const SIGNS: [&str; 19] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "-", "?", ":",
    "+",
];

/// The words of an expression with their columns; the last one is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        let column = at + 1;
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let raw = matches!(letter, 'r' | 'R') && matches!(letters.get(at + 1), Some('"' | '\''));
        if raw || matches!(letter, '"' | '\'') {
            let (value, end) = quoted(&letters, at + usize::from(raw), raw)?;
            tokens.push((column, Token::Text(value)));
            at = end;
            continue;
        }
        if letter.is_ascii_alphabetic() || letter == '_' {
            let end =
                end_of(&letters, at, |letter| letter.is_ascii_alphanumeric() || letter == '_');
            tokens.push((column, Token::Name(letters[at..end].iter().collect())));
            at = end;
            continue;
        }
        if letter.is_ascii_digit() {
            let end =
                end_of(&letters, at, |letter| letter.is_ascii_alphanumeric() || letter == '.');
            let digits: String = letters[at..end].iter().collect();
            let number = match digits.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => digits.parse(),
            };
            let number = number.map_err(|_| {
                fail(column, format!("`{digits}` is not a whole number of 64 bits"))
            })?;
            tokens.push((column, Token::Number(number)));
            at = end;
            continue;
        }
        let rest = &letters[at..letters.len().min(at + 2)];
        let sign = SIGNS.iter().find(|sign| sign.chars().eq(rest.iter().copied().take(sign.len())));
        match sign {
            Some(sign) => {
                tokens.push((column, Token::Sign(sign)));
                at += sign.len();
            }
            None => return Err(fail(column, format!("`{letter}` means nothing here"))),
        }
    }
    tokens.push((letters.len() + 1, Token::End));
    Ok(tokens)
}

fn end_of(letters: &[char], from: usize, belongs: impl Fn(char) -> bool) -> usize {
    let length = letters[from..].iter().take_while(|letter| belongs(**letter)).count();
    from + length
}

/// A text whose quote stands at `open`, and where it ends.
fn quoted(letters: &[char], open: usize, raw: bool) -> Result<(String, usize), FilterError> {
    let unclosed = || fail(open + 1, "a text without its closing quote");
    let quote = letters.get(open).copied().ok_or_else(unclosed)?;
    let mut value = String::new();
    let mut at = open + 1;
    loop {
        let letter = letters.get(at).copied().ok_or_else(unclosed)?;
        at += 1;
        if letter == quote {
            return Ok((value, at));
        }
        if letter != '\\' || raw {
            value.push(letter);
            continue;
        }
        let escape = letters.get(at).copied().ok_or_else(unclosed)?;
        at += 1;
        value.push(match escape {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '\\' | '\'' | '"' | '`' | '?' => escape,
            'x' | 'u' => {
                let digits = if escape == 'x' { 2 } else { 4 };
                let text: String = letters.iter().skip(at).take(digits).collect();
                at += digits;
                let code = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits);
                code.and_then(char::from_u32).ok_or_else(|| {
                    fail(at - digits, format!("`\\{escape}{text}` is no character"))
                })?
            }
            other => {
                return Err(fail(at, format!("`\\{other}` is no escape; write `\\\\{other}`")));
            }
        });
    }
}
