//! A position in a text, and reading of the smallest parts: words, numbers, names.
//!
//! The next character or word decides how to read on. Nothing in the language nests, so the stack
//! stays flat whatever the text holds. This file does not know the meaning of words.

use super::names::is_name_char;

/// An error for a text that is not a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The character within the line, counted from 1.
    pub column: usize,
    /// The mistake: expected and found.
    pub message: String,
}

/// The rest of a text.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    /// The offset of the next character, in bytes.
    at: usize,
    /// The number of open brackets, within which a line may end anywhere.
    depth: usize,
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Returns the number of bytes read.
    pub(super) const fn offset(&self) -> usize {
        self.at
    }

    /// Skips spaces and returns the number of bytes read.
    pub(super) fn start(&mut self) -> usize {
        self.skip(false);
        self.at
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Creates an error at a byte offset.
    pub(super) fn error_at(&self, offset: usize, message: impl Into<String>) -> ParseError {
        let before = &self.text[..offset];
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        ParseError { line, column, message: message.into() }
    }

    /// Returns an error that names the expected text.
    pub(super) fn expected<X>(&self, what: &str) -> Result<X, ParseError> {
        let found = match self.rest().chars().next() {
            None => "the end of the text".to_owned(),
            Some('\n') => "the end of the line".to_owned(),
            Some(c) if is_name_char(c) => format!("`{}`", self.rest().split(|c| !is_name_char(c)).next().unwrap_or("")),
            Some(c) => format!("`{}`", c.escape_debug()),
        };
        Err(self.error_at(self.at, format!("expected {what}, found {found}")))
    }

    /// Skips spaces and comments; line ends too when `lines` or within brackets.
    fn skip(&mut self, lines: bool) {
        let lines = lines || self.depth > 0;
        loop {
            let rest = self.rest();
            let next = rest.trim_start_matches(|c| matches!(c, ' ' | '\t' | '\r') || lines && c == '\n');
            self.at += rest.len() - next.len();
            if !next.starts_with("//") {
                return;
            }
            self.at += next.find('\n').unwrap_or(next.len());
        }
    }

    /// Skips to the next statement. Returns false at the end of the text.
    pub(super) fn statement(&mut self) -> bool {
        self.depth = 0;
        self.skip(true);
        !self.rest().is_empty()
    }

    /// Returns true if this word is next. Spaces are not skipped.
    pub(super) fn at_word(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|rest| !rest.starts_with(is_name_char))
    }

    /// Reads the end of a statement.
    pub(super) fn end_of_line(&mut self) -> Result<(), ParseError> {
        self.skip(false);
        if self.rest().is_empty() || self.rest().starts_with('\n') {
            Ok(())
        } else {
            self.expected("the end of the line")
        }
    }

    /// Returns the next character after spaces.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip(false);
        self.rest().chars().next()
    }

    /// Returns the next character. Spaces are not skipped.
    pub(super) fn peek_here(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads `c` if it is next after spaces.
    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
            match c {
                '[' | '{' | '(' => self.depth += 1,
                ']' | '}' | ')' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        found
    }

    /// Reads `c` or fails.
    pub(super) fn expect(&mut self, c: char) -> Result<(), ParseError> {
        if self.eat(c) { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    /// Skips spaces and reads the longest run of characters that `f` accepts, which may be empty.
    pub(super) fn run(&mut self, f: impl Fn(char) -> bool) -> &'t str {
        self.skip(false);
        let rest = self.rest();
        let end = rest.find(|c| !f(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads a word of letters, digits and `_`.
    pub(super) fn word(&mut self, what: &str) -> Result<&'t str, ParseError> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.is_empty() { self.expected(what) } else { Ok(word) }
    }

    /// Reads a number with its sign, fraction and exponent, or a word in its place, which may be empty.
    pub(super) fn number(&mut self) -> &'t str {
        self.skip(false);
        let rest = self.rest();
        let digits = rest.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
        let mut previous = None;
        let end = rest.find(|c: char| {
            let sign = matches!(c, '+' | '-') && (previous.is_none() || digits && matches!(previous, Some('e' | 'E')));
            previous = Some(c);
            !(sign || c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        });
        let end = end.unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads a name, quoted or not.
    pub(super) fn name(&mut self, what: &str) -> Result<String, ParseError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let name = self.run(is_name_char);
        if name.is_empty() { self.expected(what) } else { Ok(name.to_owned()) }
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.rest().chars().next() {
            let at = self.at;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\n' => break,
                '\\' => match self.escape() {
                    Some(c) => out.push(c),
                    None => return Err(self.error_at(at, r#"expected one of \", \\, \n and \u{…}"#)),
                },
                c => out.push(c),
            }
        }
        Err(self.error_at(start, "the quoted name that begins here does not end in its line"))
    }

    /// Reads the rest of an escape after its backslash.
    fn escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        match c {
            '"' | '\\' => Some(c),
            'n' => Some('\n'),
            'u' => {
                let end = self.rest().bytes().take("{10ffff}".len()).position(|b| b == b'}')?;
                let digits = self.rest().get(..end)?.strip_prefix('{')?;
                let code = u32::from_str_radix(digits, 16).ok()?;
                self.at += digits.len() + 2;
                char::from_u32(code)
            }
            _ => None,
        }
    }

    /// Reads comma-separated items up to a closing bracket, after the opening one.
    pub(super) fn items<X>(
        &mut self,
        close: char,
        item: impl FnMut(&mut Self) -> Result<X, ParseError>,
    ) -> Result<Vec<X>, ParseError> {
        if self.eat(close) {
            return Ok(Vec::new());
        }
        let out = self.list(item)?;
        if self.eat(close) { Ok(out) } else { self.expected(&format!("`,` or `{close}`")) }
    }

    /// Reads one item or more, with commas between them.
    pub(super) fn list<X>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<X, ParseError>,
    ) -> Result<Vec<X>, ParseError> {
        let mut out = vec![item(self)?];
        while self.eat(',') {
            out.push(item(self)?);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_spaces_are_skipped_but_lines_end_statements() {
        let mut c = Cursor::new("  a // b\n  [c, // d\n e]\n");
        assert!(c.statement());
        assert_eq!(c.word("a word"), Ok("a"));
        c.end_of_line().expect("the comment ends it");
        assert!(c.statement());
        c.expect('[').expect("a bracket");
        assert_eq!(c.items(']', |c| c.word("a word")), Ok(vec!["c", "e"]));
        c.end_of_line().expect("closed");
        assert!(!c.statement());
    }

    #[test]
    fn quoted_names_read_back() {
        for name in ["", "a \"b\"\\\n\u{7}é", "\u{1F600}//", "plain"] {
            let text = super::super::names::quote(name);
            assert_eq!(Cursor::new(&text).name("a name").as_deref(), Ok(name));
        }
        for bad in ["\"a", "\"a\nb\"", r#""\x""#, r#""\u{110000}""#, r#""\u{"#, r#""\"#] {
            assert!(Cursor::new(bad).name("a name").is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_count_lines_and_characters() {
        let c = Cursor::new("ab\néx");
        let e = c.error_at(5, "here");
        assert_eq!((e.line, e.column), (2, 2));
    }
}
