//! Figures and tables as people read them. Plain functions from data to text.

/// A size: `512 B`, `1.5 KiB`, `12 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (count.max(1).ilog2() / 10) as usize;
    if power == 0 {
        return format!("{count} B");
    }
    // Below 10 to the nearest tenth, and else to the nearest whole number.
    let scaled = count as f64 / 1024_f64.powi(i32::try_from(power).unwrap_or(0));
    if scaled < 9.95 { format!("{scaled:.1} {}", units[power]) } else { format!("{scaled:.0} {}", units[power]) }
}

/// A moment, in milliseconds since 1970, as RFC 3339 writes it.
pub(crate) fn moment(at_ms: u64) -> String {
    let seconds = at_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The proleptic Gregorian date of a day since 1970-01-01: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A time in milliseconds: `12.3 ms`, `4.56 s`.
pub(crate) fn time(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.1} ms") } else { format!("{:.2} s", ms / 1000.0) }
}

/// Rows under their heads, columns in line.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(heads[at].len());
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(heads.to_vec())).chain(rows).collect::<Vec<_>>().join("\n")
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (12 << 20, "12 MiB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(bytes(u64::MAX), "16 EiB");
    }

    #[test]
    fn moments() {
        let cases = [
            (0, "1970-01-01 00:00:00Z"),
            (951_827_696_000, "2000-02-29 12:34:56Z"),
            (1_709_251_199_999, "2024-02-29 23:59:59Z"),
            (4_102_444_800_000, "2100-01-01 00:00:00Z"),
        ];
        for (at_ms, expected) in cases {
            assert_eq!(moment(at_ms), expected);
        }
        // Whatever a server says.
        assert!(!moment(u64::MAX).is_empty());
    }

    #[test]
    fn tables() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long-name".to_owned(), String::new()]];
        assert_eq!(table(["function", "release"], &rows), "function   release\na          1\nlong-name");
        assert_eq!(table(["function"], &[]), "function");
    }
}
