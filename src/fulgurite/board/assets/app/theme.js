// Runs before the first paint, so that neither the colours nor the language of the page jump.
try {
  const theme = localStorage.getItem("fulgurite.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  const lang = localStorage.getItem("fulgurite.lang") || navigator.language || "en";
  document.documentElement.lang = lang.startsWith("zh") ? "zh" : "en";
} catch {
  // Storage may be switched off in the browser; the page then follows the system.
}
