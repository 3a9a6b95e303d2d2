/** Property values by name. */
export type Properties = Readonly<Record<string, string | number | boolean>>;
