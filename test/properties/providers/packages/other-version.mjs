export default { apiVersion: 7, create() {} };
