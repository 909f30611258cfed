// The filters of the page of verdicts: a claim shows if it has the chosen verdict and chapter and all the words of the text.
for (const ledger of document.querySelectorAll(".bn-ledger")) {
  const [form, status, claims] = [ledger.querySelector("form"), ledger.querySelector("[role=status]"), [...ledger.querySelectorAll("ol > li")]];
  const filter = () => {
    const { verdict, chapter, text } = Object.fromEntries(new FormData(form));
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const claim of claims) {
      const said = claim.textContent.toLowerCase();
      const fits = (wanted, key) => !wanted || claim.dataset[key] === wanted;
      claim.hidden = !(fits(verdict, "verdict") && fits(chapter, "chapter") && words.every((word) => said.includes(word)));
    }
    const shown = claims.filter((claim) => !claim.hidden).length;
    status.textContent = shown === claims.length ? `${shown} claims` : `${shown} of ${claims.length} claims`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
