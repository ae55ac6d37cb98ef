// Bring the figures of a page to life: <mb-softmax> is defined by softmax.js beside this file.
const names = new Set([...document.querySelectorAll(':not(:defined)')].map(e => e.localName).filter(name => name.startsWith('mb-')))
for (const name of names) import(`./${name.slice(3)}.js`)
