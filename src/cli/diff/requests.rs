//! A file of requests: which there are, how often, and which lines are none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::log;
use crate::explain::Asked;
use crate::limits::{
    COMPARED_REQUESTS_MAX, REQUEST_FILE_LINE_BYTES_MAX, UNREADABLE_LINES_NAMED_MAX,
};

/// A request to compare.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The request.
    pub(super) asked: Asked,
    /// The port that it came in on, if the line tells it.
    pub(super) port: Option<u16>,
    /// The first line that has it, from 1.
    pub(super) line: u64,
    /// How many lines have it.
    pub(super) count: u64,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The file as it was named.
    pub(super) path: PathBuf,
    /// Each request once, in the order of the file.
    pub(super) list: Vec<Wanted>,
    /// Lines that cannot be read, the first ones, and why.
    pub(super) unreadable: Vec<(u64, String)>,
    /// How many cannot be read.
    pub(super) unreadable_count: u64,
    /// Lines with requests beyond the number that is kept.
    pub(super) left_out: u64,
}

impl Requests {
    /// Read a file; `-` is standard input.
    pub(super) fn read(path: &Path) -> io::Result<Requests> {
        let mut requests = Requests { path: path.to_owned(), ..Requests::default() };
        if path == Path::new("-") {
            requests.take(io::stdin().lock())?;
        } else {
            requests.take(BufReader::new(File::open(path)?))?;
        }
        Ok(requests)
    }

    fn take(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut known: HashMap<(Asked, Option<u16>), usize> = HashMap::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let most = REQUEST_FILE_LINE_BYTES_MAX as u64;
            if lines.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 == most && !line.ends_with(b"\n") {
                lines.skip_until(b'\n')?;
                self.refuse(number, "the line is too long".to_owned());
                continue;
            }
            let request = match std::str::from_utf8(&line).map(|line| request(line.trim())) {
                Ok(None) => continue,
                Ok(Some(Ok(request))) => request,
                Ok(Some(Err(reason))) => {
                    self.refuse(number, reason);
                    continue;
                }
                Err(_) => {
                    self.refuse(number, "it is not UTF-8".to_owned());
                    continue;
                }
            };
            if let Some(wanted) = known.get(&request).and_then(|at| self.list.get_mut(*at)) {
                wanted.count += 1;
            } else if self.list.len() < COMPARED_REQUESTS_MAX {
                known.insert(request.clone(), self.list.len());
                let (asked, port) = request;
                self.list.push(Wanted { asked, port, line: number, count: 1 });
            } else {
                self.left_out += 1;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, reason: String) {
        self.unreadable_count += 1;
        if self.unreadable.len() < UNREADABLE_LINES_NAMED_MAX {
            self.unreadable.push((line, reason));
        }
    }

    /// Name the lines that cannot be read on standard error.
    pub(super) fn tell_unreadable(&self) {
        let path = self.path.display();
        for (line, reason) in &self.unreadable {
            eprintln!("{path}:{line}: {reason}");
        }
        let more = self.unreadable_count - self.unreadable.len() as u64;
        if more > 0 {
            eprintln!("{path}: {more} more lines cannot be read");
        }
        if self.left_out > 0 {
            eprintln!(
                "{path}: {} lines are not compared: {COMPARED_REQUESTS_MAX} different requests are \
                 the most; split the file",
                self.left_out
            );
        }
    }
}

/// The request of a line; none of an empty line or a comment.
fn request(line: &str) -> Option<Result<(Asked, Option<u16>), String>> {
    match line.as_bytes().first()? {
        b'#' => None,
        b'{' => Some(log::json_line(line)),
        b'[' => Some(log::text_line(line)),
        _ => Some(Asked::from_line(line).map(|asked| (asked, None)).map_err(|e| e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Requests {
        let mut requests = Requests::default();
        requests.take(text).expect("memory can be read");
        requests
    }

    #[test]
    fn requests_are_kept_once_and_bad_lines_named() {
        let long = vec![b'x'; REQUEST_FILE_LINE_BYTES_MAX + 10];
        let parts: [&[u8]; 7] = [
            b"# a comment\n\nGET http://a.com/x\n",
            b"http://a.com/x\r\nGET http://a.com/x -H 'a: b'\n",
            b"GET 'http://a.com\n\xff\n",
            &long,
            b"\n{}\n[nonsense\n",
            b"GET ftp://a.com/\n",
            b"GET http://b.com/",
        ];
        let requests = read(&parts.concat());
        let kept: Vec<(String, u64, u64)> = requests
            .list
            .iter()
            .map(|wanted| (wanted.asked.summary(), wanted.line, wanted.count))
            .collect();
        let wanted = |url: &str, line, count| (format!("GET http://{url}"), line, count);
        assert_eq!(
            kept,
            [wanted("a.com/x", 3, 2), wanted("a.com/x", 5, 1), wanted("b.com/", 12, 1)]
        );
        let bad: Vec<u64> = requests.unreadable.iter().map(|(line, _)| *line).collect();
        assert_eq!((bad, requests.unreadable_count), (vec![6, 7, 8, 9, 10, 11], 6));
    }

    #[test]
    fn only_so_many_bad_lines_are_kept() {
        let requests = read("GET /\n".repeat(UNREADABLE_LINES_NAMED_MAX + 5).as_bytes());
        assert_eq!(requests.unreadable.len(), UNREADABLE_LINES_NAMED_MAX);
        assert_eq!(requests.unreadable_count, UNREADABLE_LINES_NAMED_MAX as u64 + 5);
    }
}
