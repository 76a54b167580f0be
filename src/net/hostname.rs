//! The name of this machine.

/// What `gethostname` says (in a container its id or its Pod's name); empty when it says nothing usable.
pub fn hostname() -> String {
    let mut name = [0u8; 256];
    // SAFETY: a system call on a live buffer, one byte of which it may not touch.
    let outcome = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    if outcome != 0 {
        return String::new();
    }
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    // It goes into header fields.
    if text.iter().all(u8::is_ascii_graphic) {
        String::from_utf8_lossy(text).into_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_what_the_kernel_shows() {
        let shown = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
        assert_eq!(super::hostname(), shown.trim());
    }
}
