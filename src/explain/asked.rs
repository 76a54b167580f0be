//! A request as people write it: a method and a URL, with fields.

use std::fmt::Write;

use crate::http::authority;

/// A request that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The port of its URL.
    pub port: u16,
    /// Does it come over TLS, with its host as the server name?
    pub tls: bool,
    /// Its head, as a client would send it.
    pub head: Vec<u8>,
}

/// Why something is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Other than one or two words.
    #[error("`{0}` is not a method and a URL")]
    Words(String),
    /// A scheme that no listener serves.
    #[error("`{0}` is not served: use an `http://` or `https://` URL")]
    Scheme(String),
    /// A URL without a host.
    #[error("`{0}` names no host")]
    Host(String),
    /// A port that is no number.
    #[error("`{0}` is not a port")]
    Port(String),
    /// A field without a colon.
    #[error("`{0}` is not of the form `name: value`")]
    Field(String),
    /// A quote that does not end.
    #[error("a quote does not end in `{0}`")]
    Quote(String),
}

impl Asked {
    /// `GET http://host:port/path?query`, or the URL alone, and fields of the form `name: value`.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn new(request: &str, fields: &[impl AsRef<str>]) -> Result<Asked, AskError> {
        let words: Vec<&str> = request.split_ascii_whitespace().collect();
        let (method, url) = match words[..] {
            [url] => ("GET", url),
            [method, url] => (method, url),
            _ => return Err(AskError::Words(request.to_owned())),
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(AskError::Scheme(scheme.to_owned())),
            None => (false, url),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        Asked::from_parts(method, tls, authority, &target, fields).map_err(|error| match error {
            AskError::Host(_) => AskError::Host(url.to_owned()),
            other => other,
        })
    }

    /// The same of its parts.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn from_parts(
        method: &str,
        tls: bool,
        authority: &str,
        target: &str,
        fields: &[impl AsRef<str>],
    ) -> Result<Asked, AskError> {
        if authority.is_empty() {
            return Err(AskError::Host(target.to_owned()));
        }
        let port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => {
                port.parse().map_err(|_| AskError::Port(port.to_owned()))?
            }
            _ if tls => 443,
            _ => 80,
        };
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n");
        for field in fields {
            let field = field.as_ref();
            let (name, value) =
                field.split_once(':').ok_or_else(|| AskError::Field(field.to_owned()))?;
            // Writing to a text cannot fail.
            let _ = write!(text, "{}: {}\r\n", name.trim(), value.trim());
        }
        text.push_str("\r\n");
        Ok(Asked { port, tls, head: text.into_bytes() })
    }

    /// The same in one line, as a shell would be told: `GET http://host/path -H 'name: value'`.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn from_line(line: &str) -> Result<Asked, AskError> {
        let mut request = Vec::new();
        let mut fields = Vec::new();
        let mut words = split_words(line)?.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-H" | "--header" => {
                    let field = words.next().ok_or_else(|| AskError::Field(word.clone()))?;
                    fields.push(field);
                }
                _ => request.push(word),
            }
        }
        Asked::new(&request.join(" "), &fields)
    }

    /// A text whose first line is as in [`Asked::from_line`]; a field may stand on each further line.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn from_text(text: &str) -> Result<Asked, AskError> {
        let mut lines = text.lines();
        let mut asked = Asked::from_line(lines.next().unwrap_or_default())?;
        for field in lines.filter(|line| !line.trim().is_empty()) {
            let (name, value) =
                field.split_once(':').ok_or_else(|| AskError::Field(field.to_owned()))?;
            asked.head.truncate(asked.head.len() - 2);
            let field = format!("{}: {}\r\n\r\n", name.trim(), value.trim());
            asked.head.extend_from_slice(field.as_bytes());
        }
        Ok(asked)
    }

    /// Method and URL.
    pub fn summary(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        let mut words = text.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        format!("{method} {scheme}://{host}{target}")
    }

    /// Its host, without its port.
    pub fn host(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        String::from_utf8_lossy(authority::host(host.as_bytes())).into_owned()
    }

    /// Its fields after the host, one of each line.
    pub fn fields(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head);
        text.trim_end().lines().skip(2).map(str::to_owned).collect()
    }
}

/// Split a line into words as a shell does: blanks part them unless quoted by `'`, `"` or `\`.
fn split_words(line: &str) -> Result<Vec<String>, AskError> {
    let unended = || AskError::Quote(line.to_owned());
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or_else(unended)? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or_else(unended)? {
                        '"' => break,
                        '\\' => word.push(letters.next().ok_or_else(unended)?),
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next().ok_or_else(unended)?),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str, fields: &[&str]) -> Result<(u16, String), AskError> {
        let asked = Asked::new(request, fields)?;
        Ok((asked.port, String::from_utf8(asked.head).expect("text")))
    }

    #[test]
    fn requests_are_a_method_and_a_url() {
        let (port, text) = asked("POST http://a.com:81/x?y", &["x-a:1", "x-b: c:d"]).expect("good");
        assert_eq!(port, 81);
        assert_eq!(text, "POST /x?y HTTP/1.1\r\nhost: a.com:81\r\nx-a: 1\r\nx-b: c:d\r\n\r\n");
        let (port, text) = asked("https://a.com/", &[]).expect("good");
        assert_eq!((port, text.as_str()), (443, "GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"));
        let (port, text) = asked("a.com?q", &[]).expect("good");
        assert_eq!((port, text.as_str()), (80, "GET /?q HTTP/1.1\r\nhost: a.com\r\n\r\n"));
        assert_eq!(asked("http://[::1]/", &[]).expect("good").0, 80);
        for (bad, part) in [
            ("", "method and a URL"),
            ("GET ftp://a.com/", "`ftp` is not served"),
            ("GET /a", "names no host"),
            ("GET a.com:x/", "not a port"),
        ] {
            let message = asked(bad, &[]).expect_err(bad).to_string();
            assert!(message.contains(part), "{bad}: {message}");
        }
        assert!(asked("GET a.com", &["x"]).is_err());
    }

    #[test]
    fn lines_are_read_as_a_shell_reads_them() {
        let same = Asked::new("GET http://a.com/x", &["x-a: b c", "x-q: \"'"]).expect("good");
        for line in [
            r#"GET http://a.com/x -H 'x-a: b c' -H "x-q: \"'""#,
            r#"  -H x-a:\ b\ c  GET   http://a.com/x --header x-q:\"\' "#,
        ] {
            assert_eq!(Asked::from_line(line).as_ref(), Ok(&same), "{line}");
        }
        let text = "GET http://a.com/x\nx-a: b c\r\nx-q: \"'\n\n";
        assert_eq!(Asked::from_text(text).as_ref(), Ok(&same));
        assert_eq!(same.summary(), "GET http://a.com/x");
        assert_eq!(same.fields(), ["x-a: b c", "x-q: \"'"]);
        for bad in ["GET 'http://a.com", "GET http://a.com -H", "\\", "GET http://a.com \"\\"] {
            assert!(Asked::from_line(bad).is_err(), "{bad}");
        }
        assert!(Asked::from_text("GET http://a.com\nno field").is_err());
        assert!(Asked::from_text("").is_err());
    }
}
