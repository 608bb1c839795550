//! `book`: the documentation as a book. Every page is in the table of contents, and every relative link of the
//! repository's pages leads to a file that is there, with the heading that it names; then mdBook builds it. Whether
//! other sites are still there is not looked at.

mod links;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo_tool::{self, CargoTool};
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, show, step};
use crate::workspace::{Home, root, target};

const MDBOOK: CargoTool = CargoTool {
    name: "mdbook",
    version: "0.5.4",
    // Neither a server nor a watcher; search in the browser stays.
    options: &["--no-default-features", "--features", "search"],
};

/// Pages of the book that stand beside `docs`, and not in it.
const BESIDE: [&str; 5] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "crates/assent-client/README.md",
];

/// Checks the pages and builds the book: `target/book/html/index.html`.
pub fn book() -> Result<()> {
    catch_interrupts();
    println!("the book");
    let outside = check(&root())?;
    let home = Home::open("book")?;
    let source = lay_out(&home, &outside)?;
    let mdbook = cargo_tool::program(&MDBOOK)?;
    let html = target().join("book/html");
    let mut build = Command::new(mdbook);
    build.arg("build").arg("--dest-dir").arg(&html).arg(source);
    show(&mut build, "`mdbook build`")?;
    println!("  {}", html.join("index.html").display());
    Ok(())
}

/// What is wrong with the pages below `root`, else the files that pages link to and that are no pages.
fn check(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let pages = pages(root);
    let mut faults = Vec::new();
    let mut outside = BTreeSet::new();
    for page in &pages {
        for link in links::of(&read(root, page)?) {
            match links::resolve(root, page, &link) {
                Err(fault) => faults.push(format!("{}: {fault}", page.display())),
                Ok(Some(file)) if file.extension().is_none_or(|it| it != "md") => {
                    outside.insert(file);
                }
                Ok(_) => {}
            }
        }
    }
    let listed: Vec<String> = links::of(&read(root, Path::new("docs/SUMMARY.md"))?);
    let mut seen = BTreeSet::new();
    for link in &listed {
        if !seen.insert(links::normal(&Path::new("docs").join(link))) {
            faults.push(format!("docs/SUMMARY.md: {link} is listed twice"));
        }
    }
    let of_book = |page: &&PathBuf| {
        page.starts_with("docs") || BESIDE.iter().any(|beside| page.as_os_str() == *beside)
    };
    for page in pages.iter().filter(of_book) {
        if !page.ends_with("SUMMARY.md") && !seen.contains(page) {
            faults.push(format!("docs/SUMMARY.md: {} is not listed", page.display()));
        }
    }
    if !faults.is_empty() {
        return Err(Error::Said(faults.join("\n")));
    }
    println!("  {} pages, {} of them in the book", pages.len(), seen.len());
    Ok(outside)
}

/// The pages of the repository, as paths from its root.
pub fn pages(root: &Path) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 3] = ["target", "node_modules", ".git"];
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !NOT_OURS.iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root).unwrap_or(&path).to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn read(root: &Path, page: &Path) -> Result<String> {
    let path = root.join(page);
    fs::read_to_string(&path).at(&path)
}

/// The book as mdBook wants it: the folders of the repository, so that links mean the same, below a table of
/// contents.
fn lay_out(home: &Home, outside: &BTreeSet<PathBuf>) -> Result<PathBuf> {
    let book = home.path("source");
    let _ = fs::remove_dir_all(&book);
    let source = book.join("src");
    fs::create_dir_all(&source).at(&source)?;
    let mut take = Command::new("cp");
    take.arg("-R").arg(root().join("docs")).arg(&source);
    step(&mut take, "copying the pages", &home.log("book"))?;
    let beside = BESIDE.iter().map(Path::new).chain(outside.iter().map(PathBuf::as_path));
    for file in beside.filter(|file| root().join(file).is_file()) {
        let to = source.join(file);
        let folder = to.parent().unwrap_or(&source);
        fs::create_dir_all(folder).at(folder)?;
        fs::copy(root().join(file), &to).at(&to)?;
    }
    fs::rename(source.join("docs/book.toml"), book.join("book.toml")).at(&book)?;
    let summary = source.join("docs/SUMMARY.md");
    let listed = fs::read_to_string(&summary).at(&summary)?;
    let listed = listed.replace("](", "](docs/").replace("](docs/../", "](");
    fs::write(source.join("SUMMARY.md"), listed).at(&source)?;
    fs::remove_file(&summary).at(&summary)?;
    Ok(book)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
        check(&root()).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = std::env::temp_dir().join(format!("assent-book-{}", std::process::id()));
        fs::create_dir_all(dir.join("docs")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("docs/SUMMARY.md", "- [One](one.md)\n- [One](one.md)\n");
        write("docs/one.md", "# One\n[two](two.md#a-head), [gone](gone.md), [no](two.md#head)\n");
        write("docs/two.md", "## A `head`\n`[in code](nowhere.md)` [out](https://example.org/x)\n");
        let Err(Error::Said(faults)) = check(&dir) else { panic!("nothing was found") };
        let lines: Vec<&str> = faults.lines().collect();
        assert_eq!(
            lines,
            [
                "docs/one.md: there is no gone.md",
                "docs/one.md: two.md has no heading #head",
                "docs/SUMMARY.md: one.md is listed twice",
                "docs/SUMMARY.md: docs/two.md is not listed",
            ]
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
