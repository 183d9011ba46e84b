// Filters, search, keys and the theme. The page reads without any of it.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  root.classList.add("js");

  const stored = () => {
    try { return localStorage.getItem("theria-lint-theme"); } catch { return null; }
  };
  const store = (theme) => {
    try { localStorage.setItem("theria-lint-theme", theme); } catch { /* A browser may refuse to remember. */ }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();

  const setUpTheme = () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      show();
    });
    dark.addEventListener("change", show);
    show();
  };

  const setUpFilters = () => {
    const items = [...document.querySelectorAll(".item")];
    const buttons = [...document.querySelectorAll(".choice")];
    const search = document.getElementById("search");
    const texts = new Map();
    const textOf = (item) => {
      if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
      return texts.get(item);
    };
    const chosen = () => {
      const groups = {};
      for (const button of buttons) {
        if (button.getAttribute("aria-pressed") !== "true") continue;
        (groups[button.dataset.group] ??= new Set()).add(button.dataset.value);
      }
      return Object.entries(groups);
    };
    const apply = () => {
      const groups = chosen();
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const isShown = (item) =>
        groups.every(([group, values]) => item.dataset[group].split(" ").some((value) => values.has(value))) &&
        words.every((word) => textOf(item).includes(word));
      for (const item of items) item.hidden = !isShown(item);
      for (const group of document.querySelectorAll(".group")) {
        group.hidden = !group.querySelector(".item:not([hidden])");
      }
      tell(groups.length > 0 || words.length > 0);
    };
    const tell = (filtered) => {
      const counts = ["finding", "target"].map((kind) => {
        const all = items.filter((item) => item.dataset.kind === kind);
        return `${all.filter((item) => !item.hidden).length} of ${all.length} ${kind}s`;
      });
      document.getElementById("shown").textContent = `${counts.join(", ")} shown`;
      document.getElementById("reset").disabled = !filtered;
    };
    const reset = () => {
      for (const button of buttons) button.setAttribute("aria-pressed", "false");
      search.value = "";
      apply();
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    }
    search.addEventListener("input", apply);
    document.getElementById("reset").addEventListener("click", reset);
    apply();
    return { search, apply, reset };
  };

  const setUpKeys = ({ search, apply }) => {
    const step = (by) => {
      const heads = [...document.querySelectorAll(".finding:not([hidden]) > summary, .target:not([hidden]) > summary")];
      const item = document.activeElement.closest?.(".item");
      const at = item ? heads.indexOf(item.querySelector("summary")) : -1;
      const next = heads[at < 0 ? (by > 0 ? 0 : heads.length - 1) : at + by];
      next?.focus();
      next?.scrollIntoView({ block: "nearest" });
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === search) {
        if (event.key === "Escape") { search.value = ""; apply(); search.blur(); }
        return;
      }
      if (event.key === "/") {
        event.preventDefault();
        document.getElementById("controls").open = true;
        search.focus();
        search.select();
      } else if (event.key === "j") step(1);
      else if (event.key === "k") step(-1);
    });
  };

  // A link into what is closed or filtered out has to lead there all the same.
  const setUpLinks = ({ reset }) => {
    const follow = () => {
      const place = document.getElementById(location.hash.slice(1));
      if (!place) return;
      if (place.closest("[hidden]")) reset();
      for (let at = place; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
      place.scrollIntoView({ block: place.matches(".row") ? "center" : "start" });
      (place.matches("[tabindex]") ? place : place.querySelector("a, summary"))?.focus({ preventScroll: true });
    };
    addEventListener("hashchange", follow);
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#']");
      if (link && link.hash === location.hash) follow();
    });
    if (location.hash) follow();
  };

  const setUpPrint = () => {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll(".finding:not([open]), .target:not([open])")];
      for (const item of opened) item.open = true;
    });
    addEventListener("afterprint", () => { for (const item of opened) item.open = false; });
  };

  document.addEventListener("DOMContentLoaded", () => {
    setUpTheme();
    const filters = setUpFilters();
    setUpKeys(filters);
    setUpLinks(filters);
    setUpPrint();
    if (matchMedia("(max-width: 63.99rem)").matches) document.getElementById("controls").open = false;
  });
})();
