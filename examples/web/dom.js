// Making elements: h("button", { class: "plain", onclick: go }, "Go").

/** An element with properties and children; a name with a dash is an attribute, `class` is the class name. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
