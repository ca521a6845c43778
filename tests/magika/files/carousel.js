const slides = document.querySelectorAll('.slide');
let current = 0;

function show(index) {
  slides.forEach((slide, i) => slide.classList.toggle('visible', i === index));
}

document.querySelector('#next').addEventListener('click', async () => {
  current = (current + 1) % slides.length;
  show(current);
  const response = await fetch(`/slides/${current}.json`);
  console.log(await response.json());
});

module.exports = { show };
